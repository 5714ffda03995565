// out[b][t] = D(x[b][t + 1]) - x[b][t] and out[b][T - 1] = 0, where D(y)[i] = sum_m weight[c][m] * y[i + m - M / 2]
// along one axis of a frame.
//
// A frame is cut into planes: neighbouring elements, `lines` x length x inner of them, that share a channel, or, where
// channels vary fastest, the whole frame. A row is the `inner` elements at one step of the axis.
#pragma once

#include "common/portable.h"
#include "common/strip.h"

namespace dfops::directional {

struct Planes {
  int64_t clips, frames, planes, lines, length, inner;
  int64_t channels;  // of one plane

  Planes(int64_t b, int64_t t, const Strips& s)
      : clips(b),
        frames(t),
        planes(s.channels_fastest() ? 1 : s.channels),
        length(s.length),
        inner(s.inner),
        channels(s.channels_fastest() ? s.channels : 1) {
    lines = s.outer / (clips * frames * planes);
  }

  DFOPS_HD int64_t rows() const { return lines * length; }
  DFOPS_HD int64_t plane() const { return rows() * inner; }
  DFOPS_HD int64_t frame() const { return planes * plane(); }
};

}  // namespace dfops::directional
