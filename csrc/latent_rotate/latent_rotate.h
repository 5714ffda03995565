// Rotation of every (H, W) map about its centre: which pixels an output position reads, in all modes and paddings of
// grid_sample.
#pragma once

#include "common/rotation.h"

namespace dfops::rotate {

enum class Mode : int64_t { kBilinear, kNearest };
enum class Padding : int64_t { kZeros, kBorder, kReflection };

// What the entries of a position are: the pixels it reads with their weights, the same with the derivatives of the
// weights in the angle, or the positions that read it.
enum class What { kWeights, kSlopes, kReaders };

struct Maps {
  int64_t count, channels, height, width;
  bool channels_last;

  DFOPS_HD int64_t positions() const { return height * width; }
  DFOPS_HD int64_t size() const { return channels * positions(); }
  // Distances in memory.
  DFOPS_HD int64_t position_step() const { return channels_last ? channels : 1; }
  DFOPS_HD int64_t channel_step() const { return channels_last ? 1 : positions(); }
};

template <class acc_t>
struct Sampler {
  Rotation<acc_t> rotation;
  Mode mode;
  Padding padding;

  DFOPS_HD Sampler(const Maps& maps, acc_t angle, Mode m, Padding p)
      : rotation(angle, maps.height, maps.width), mode(m), padding(p) {}

  // Calls f(offset, weight, slope) for the pixels that an output position reads.
  template <class F>
  DFOPS_HD void taps(int64_t row, int64_t col, const F& f) const {
    const auto at = rotation.source(row, col);
    const acc_t height = acc_t(rotation.height), width = acc_t(rotation.width);
    const Folded r = fold(at.row, height), c = fold(at.col, width);
    // an angle that is no number: nowhere is outside, so the result is NaN as well, as in grid_sample
    if (usual() && at.row != at.row) return f(0, at.row, at.row);
    if (mode == Mode::kNearest) {
      const acc_t near_row = nearbyint(r.value), near_col = nearbyint(c.value);
      if (near_row >= 0 && height > near_row && near_col >= 0 && width > near_col)
        f(int64_t(near_row) * rotation.width + int64_t(near_col), acc_t(1), acc_t(0));
      return;
    }
    // turning moves a point at right angles to its place, both in normalised coordinates
    const acc_t down = r.slope * height / 2 * ((2 * at.col + 1) / width - 1),
                right = -c.slope * width / 2 * ((2 * at.row + 1) / height - 1);
    rotation.around({r.value, c.value}, [&](int k, int64_t offset, acc_t by_row, acc_t by_col) {
      f(offset, by_row * by_col, (k / 2 ? down : -down) * by_col + (k % 2 ? right : -right) * by_row);
    });
  }

  // Calls f(offset, weight) for every output position that reads a pixel, in row order. Other modes than the usual one
  // try every position.
  template <class F>
  DFOPS_HD void readers(int64_t row, int64_t col, const F& f) const {
    if (usual() && rotation.cosine == rotation.cosine) return rotation.readers(row, col, f);
    const int64_t pixel = row * rotation.width + col;
    for (int64_t r = 0; r < rotation.height; ++r)
      for (int64_t c = 0; c < rotation.width; ++c)
        taps(r, c, [&](int64_t offset, acc_t weight, acc_t) {
          if (offset == pixel) f(r * rotation.width + c, weight);
        });
  }

 private:
  // What LSDA uses.
  DFOPS_HD bool usual() const { return mode == Mode::kBilinear && padding == Padding::kZeros; }

  struct Folded {
    acc_t value, slope;
  };

  // A coordinate brought into the map by the padding, and its derivative; as grid_sample has it, NaN becomes 0.
  DFOPS_HD Folded fold(acc_t at, acc_t size) const {
    if (padding == Padding::kZeros) return {at, 1};
    acc_t slope = 1;
    if (padding == Padding::kReflection) {  // about the outer edges of the first and of the last pixel
      const acc_t beyond = fabs(at + acc_t(0.5)), flips = floor(beyond / size), rest = fmod(beyond, size);
      const bool odd = fmod(flips, acc_t(2)) == 1;
      slope = (at + acc_t(0.5) < 0) != odd ? -1 : 1;
      at = (odd ? size - rest : rest) - acc_t(0.5);
    }
    if (!(at > 0)) return {0, 0};
    return at < size - 1 ? Folded{at, slope} : Folded{size - 1, 0};
  }
};

}  // namespace dfops::rotate
