// What the CPU loops and the CUDA kernels share: how maps lie in memory, what is done to a map, the farthest row.
//
// A map is z[g, d], its number g * D + d. A row, of which statistics are taken in each domain, is the map of a group,
// number g, or with per_channel the (H, W) plane of one of its channels, number g * C + c.
#pragma once

#include <cstring>

#include "common/index.h"
#include "common/portable.h"
#include "common/rotation.h"

namespace dfops::augment {

constexpr int64_t kInterpolate = 0, kExtrapolate = 1, kAdd = 2, kDifference = 3, kRotate = 4, kCopy = -1;

// Steps in memory from one map, position and channel to the next, and from the augmented to the mixed half of a map.
struct Steps {
  int64_t map, position, channel, half;
};

struct Sizes {
  int64_t groups, domains, channels, height, width;
  bool channels_last, per_channel;

  DFOPS_HD int64_t maps() const { return groups * domains; }
  DFOPS_HD int64_t positions() const { return height * width; }
  DFOPS_HD int64_t map() const { return channels * positions(); }
  DFOPS_HD int64_t rows() const { return per_channel ? groups * channels : groups; }
  DFOPS_HD int64_t row() const { return per_channel ? positions() : map(); }
  // `halves` is 2 for maps that hold the mixed one in as many channels again.
  DFOPS_HD Steps steps(int64_t halves) const {
    if (channels_last) return {halves * map(), halves * channels, 1, channels};
    return {halves * map(), 1, positions(), map()};
  }
};

// The random draws of a call. Those without which a transformation is left out may be null, as may perm and mix_lam.
template <class acc_t>
struct Draws {
  const int64_t* choice;
  const acc_t *lam, *sigma, *angle;
  const int64_t* perm;
  const acc_t* mix_lam;
  bool has_noise, given_centroid, mix_per_map;

  // Copied are maps whose id is unknown or lacks an argument, and those whose domain has one row only, which is its own
  // centroid and farthest row.
  DFOPS_HD int64_t transform(const Sizes& s, int64_t map) const {
    const int64_t id = choice[map];
    const bool known = id >= kInterpolate && id <= kRotate;
    const bool single = (id == kInterpolate && s.rows() == 1) ||
                        (id == kExtrapolate && s.rows() == 1 && !given_centroid) ||
                        (id == kDifference && (s.per_channel ? s.channels : s.groups) == 1);
    const bool lacking = (id == kAdd && (sigma == nullptr || !has_noise)) || (id == kRotate && angle == nullptr);
    return known && !single && !lacking ? id : kCopy;
  }
  DFOPS_HD int64_t scalar(const Sizes& s, int64_t map, int64_t channel) const {
    return s.per_channel ? map * s.channels + channel : map;
  }
  // What the difference of a transformation is multiplied by.
  DFOPS_HD acc_t scale(const Sizes& s, int64_t id, int64_t map, int64_t channel) const {
    const int64_t i = scalar(s, map, channel);
    return id == kAdd ? lam[i] * sigma[i] : lam[i];
  }
  // The derivative of a map by itself, statistics apart.
  DFOPS_HD acc_t own_factor(const Sizes& s, int64_t id, int64_t map, int64_t channel) const {
    if (id == kInterpolate) return 1 - lam[scalar(s, map, channel)];
    if (id == kExtrapolate) return 1 + lam[scalar(s, map, channel)];
    return 1;
  }
  // Whether a transformation reads other rows of z, which then get a share of its gradient.
  static DFOPS_HD bool reads_rows(int64_t id) { return id == kInterpolate || id == kExtrapolate || id == kDifference; }

  DFOPS_HD acc_t mix_weight(const Sizes& s, int64_t map) const { return mix_lam[mix_per_map ? map : map / s.domains]; }
  // The domain mixed into a map.
  DFOPS_HD int64_t partner(const Sizes& s, int64_t map) const { return row_index(perm[map], s.domains); }
};

// Where a row begins in z, by its number.
DFOPS_HD int64_t row_offset(const Sizes& s, int64_t domain, int64_t row) {
  const Steps z = s.steps(1);
  if (!s.per_channel) return (row * s.domains + domain) * z.map;
  return (row / s.channels * s.domains + domain) * z.map + row % s.channels * z.channel;
}

// A squared distance as an integer of the same order, NaN the largest.
DFOPS_HD uint64_t distance_key(double distance) {
  if (distance != distance) return ~uint64_t(0);
  uint64_t bits;
  memcpy(&bits, &distance, sizeof bits);
  return bits;
}

}  // namespace dfops::augment
