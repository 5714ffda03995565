// s_t = -sum_j cos(query_t, key_j) = -(q_t / |q_t|) . K with K = sum_j k_j / |k_j|, position by position; its variance
// over t; the positions whose variance ranks above the num_keep-th largest of the clip; min-max over positions.
//
// The sums over channels and frames run in index order for every position, so equal vectors give equal bits wherever
// they stand: ties are decided by the data.
#pragma once

#include "common/portable.h"

namespace dfops::difference {

constexpr double kMinNorm = 1e-12;  // the clamp of torch's F.normalize

template <class acc_t>
DFOPS_HD acc_t inverse_norm(acc_t square) {
  const acc_t norm = std::sqrt(square);
  return 1 / (norm < acc_t(kMinNorm) ? acc_t(kMinNorm) : norm);
}

// 1 / |x| again where the norm depends on x, 0 where the clamp holds it.
template <class acc_t>
DFOPS_HD acc_t slope_of_norm(acc_t square, acc_t inverse) {
  return std::sqrt(square) < acc_t(kMinNorm) ? acc_t(0) : inverse;
}

template <class acc_t>
DFOPS_HD acc_t difference_at(acc_t dot, acc_t inverse, acc_t frames) {
  const acc_t s = -(dot * inverse);
  return s < -frames ? -frames : s;  // NaN stays
}

// Unbiased variance of s[0], s[step], ... s[(frames - 1) * step]; exactly 0 for equal values.
template <class acc_t>
DFOPS_HD acc_t variance_at(const acc_t* s, int64_t step, int64_t frames, acc_t min_variance) {
  const acc_t origin = s[0];
  acc_t mean = 0;
  for (int64_t t = 1; t < frames; ++t) mean += s[t * step] - origin;
  mean /= acc_t(frames);
  acc_t sum = mean * mean;
  for (int64_t t = 1; t < frames; ++t) {
    const acc_t d = (s[t * step] - origin) - mean;
    sum += d * d;
  }
  const acc_t variance = sum / acc_t(frames - 1);
  return variance < min_variance ? acc_t(0) : variance;
}

// Unsigned keys in the order of the values, NaN above all.
template <class acc_t>
struct Rank;
template <>
struct Rank<float> {
  using key_t = uint32_t;
};
template <>
struct Rank<double> {
  using key_t = uint64_t;
};
template <class acc_t>
using key_type = typename Rank<acc_t>::key_t;

template <class acc_t>
DFOPS_HD key_type<acc_t> key_of(acc_t value) {
  using key_t = key_type<acc_t>;
  constexpr key_t kSign = key_t(1) << (8 * sizeof(key_t) - 1);
  const acc_t unsigned_zero = value == 0 ? acc_t(0) : value;
  key_t bits;
  std::memcpy(&bits, &unsigned_zero, sizeof bits);
  return value != value ? key_t(~key_t(0)) : (bits & kSign) ? key_t(~bits) : key_t(bits | kSign);
}

template <class acc_t>
DFOPS_HD acc_t value_of(key_type<acc_t> key) {
  using key_t = key_type<acc_t>;
  constexpr key_t kSign = key_t(1) << (8 * sizeof(key_t) - 1);
  const key_t bits = (key & kSign) ? key_t(key & ~kSign) : key_t(~key);
  acc_t value;
  std::memcpy(&value, &bits, sizeof value);
  return value;  // the key of NaN is no number's, so NaN comes back as NaN
}

// What the rules keep. Under "le" with a NaN threshold nothing is masked and the slots hold NaN positions.
template <class acc_t>
DFOPS_HD bool is_masked(acc_t variance, acc_t threshold, bool strict) {
  return strict ? variance < threshold : variance <= threshold;
}
template <class acc_t>
DFOPS_HD bool has_slot(acc_t variance, acc_t threshold) {
  return variance != variance || variance > threshold;
}

template <class acc_t>
DFOPS_HD acc_t normalized_at(acc_t s, acc_t low, acc_t high, acc_t eps) {
  return (s - low) / (high - low + eps);
}

// Memory of a clip (B, T, C, P), P positions h * W + w; channels-last is (B, T, P, C).
template <class scalar_t>
struct Clip {
  scalar_t* data;
  int64_t frames, channels, positions;
  bool channels_last;

  DFOPS_HD scalar_t* frame(int64_t b, int64_t t) const { return data + (b * frames + t) * channels * positions; }
  DFOPS_HD int64_t channel_step() const { return channels_last ? 1 : positions; }
  DFOPS_HD int64_t position_step() const { return channels_last ? channels : 1; }
};

}  // namespace dfops::difference
