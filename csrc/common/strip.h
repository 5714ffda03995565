// One axis of a clip as (outer, length, inner): element l of position o * inner + i is at (o * length + l) * inner + i.
#pragma once

#include "common/portable.h"

namespace dfops {

// Without the cost of a 64-bit division where the numbers are small; neither is negative.
DFOPS_HD int64_t quotient(int64_t a, int64_t b) {
  return ((a | b) >> 32) == 0 ? int64_t(uint32_t(a) / uint32_t(b)) : a / b;
}

struct Strips {
  int64_t outer, length, inner;
  int64_t channels, run;  // the channel of a position is position / run % channels

  DFOPS_HD int64_t positions() const { return outer * inner; }
  DFOPS_HD int64_t channel(int64_t position) const { return position / run % channels; }
  // Channels vary fastest and a row of positions holds all of them; otherwise runs of one channel fill a row, or rows
  // fill a run.
  DFOPS_HD bool channels_fastest() const { return run == 1 && inner % channels == 0; }
};

// Directions, scales and taps; without a weight there is one direction, and the means are the result.
struct Filters {
  int64_t directions, scales, taps;
  const int64_t* scale;
  bool weighted;

  DFOPS_HD int64_t outputs() const { return directions * scales; }
};

// `axis` is a dimension of (B, T, C, H, W): 1, 3 or 4.
inline Strips strips_of(int64_t b, int64_t t, int64_t c, int64_t h, int64_t w, bool channels_last, int64_t axis) {
  if (channels_last) {
    if (axis == 1) return {b, t, h * w * c, c, 1};
    if (axis == 3) return {b * t, h, w * c, c, 1};
    return {b * t * h, w, c, c, 1};
  }
  if (axis == 1) return {b, t, c * h * w, c, h * w};
  if (axis == 3) return {b * t * c, h, w, c, w};
  return {b * t * c * h, w, 1, c, h};
}

}  // namespace dfops
