// s_t = -sum_j cos(query_t, key_j) = -(q_t / |q_t|) . K with K = sum_j k_j / |k_j|, position by position; its variance
// over t; the positions whose variance ranks above the num_keep-th largest of the clip; min-max over positions.
//
// The sums over channels and frames run in index order for every position, in full tiles only (tails are padded), so
// equal vectors give equal bits wherever they stand: ties are decided by the data.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "common/portable.h"

namespace dfops::difference {

// ---- One position -------------------------------------------------------------------------------------------------

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
  key_t bits;
  std::memcpy(&bits, &value, sizeof bits);
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

// ---- CPU: clips and tiles -----------------------------------------------------------------------------------------

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

constexpr int kLanes = 32;  // positions a tile; a tile has one row of kLanes values a channel

template <class scalar_t>
struct Rows {
  const scalar_t* data;
  int64_t step;
};

// to[c][lane] = from[lane][c]: the scattered side is the read, four by four where the compiler has vectors.
template <class scalar_t>
DFOPS_INLINE void transpose(scalar_t* to, const scalar_t* from, int64_t channels, int64_t lanes) {
  for (int64_t lane = 0; lane < lanes; ++lane)
    for (int64_t c = 0; c < channels; ++c) to[c * kLanes + lane] = from[lane * channels + c];
}

#if (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)) && !defined(__CUDACC__)
DFOPS_INLINE void transpose(float* to, const float* from, int64_t channels, int64_t lanes) {
  typedef float row_t __attribute__((vector_size(16), aligned(4), may_alias));
  const int64_t whole = channels / 4 * 4, full = lanes / 4 * 4;
  for (int64_t lane = 0; lane < full; lane += 4)
    for (int64_t c = 0; c < whole; c += 4) {
      const float* in = from + lane * channels + c;
      const row_t a = *reinterpret_cast<const row_t*>(in), b = *reinterpret_cast<const row_t*>(in + channels),
                  d = *reinterpret_cast<const row_t*>(in + 2 * channels),
                  e = *reinterpret_cast<const row_t*>(in + 3 * channels);
      const row_t ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7),
                  de_low = __builtin_shufflevector(d, e, 0, 4, 1, 5), de_high = __builtin_shufflevector(d, e, 2, 6, 3, 7);
      float* out = to + c * kLanes + lane;
      *reinterpret_cast<row_t*>(out) = __builtin_shufflevector(ab_low, de_low, 0, 1, 4, 5);
      *reinterpret_cast<row_t*>(out + kLanes) = __builtin_shufflevector(ab_low, de_low, 2, 3, 6, 7);
      *reinterpret_cast<row_t*>(out + 2 * kLanes) = __builtin_shufflevector(ab_high, de_high, 0, 1, 4, 5);
      *reinterpret_cast<row_t*>(out + 3 * kLanes) = __builtin_shufflevector(ab_high, de_high, 2, 3, 6, 7);
    }
  for (int64_t lane = 0; lane < lanes; ++lane)
    for (int64_t c = lane < full ? whole : 0; c < channels; ++c) to[c * kLanes + lane] = from[lane * channels + c];
}
#endif

// Positions [first, first + lanes) of a frame as rows: in place where memory is like that, else in `scratch`, padded
// with zeros.
template <class scalar_t>
DFOPS_INLINE Rows<scalar_t> rows_of(const Clip<const scalar_t>& clip, int64_t b, int64_t t, int64_t first, int64_t lanes,
                                    scalar_t* scratch) {
  const scalar_t* frame = clip.frame(b, t);
  if (!clip.channels_last && lanes == kLanes) return {frame + first, clip.positions};
  if (lanes < kLanes) std::fill(scratch, scratch + clip.channels * kLanes, scalar_t(0.0f));
  if (clip.channels_last) {
    transpose(scratch, frame + first * clip.channels, clip.channels, lanes);
  } else {
    for (int64_t c = 0; c < clip.channels; ++c)
      std::copy(frame + c * clip.positions + first, frame + c * clip.positions + first + lanes, scratch + c * kLanes);
  }
  return {scratch, kLanes};
}

template <class scalar_t, class acc_t>
DFOPS_INLINE void squares_of(const Rows<scalar_t>& rows, int64_t channels, acc_t* square) {
  acc_t sum[kLanes] = {};
  for (int64_t c = 0; c < channels; ++c) {
    const scalar_t* row = rows.data + c * rows.step;
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) sum[l] += acc_t(row[l]) * acc_t(row[l]);
  }
  std::copy(sum, sum + kLanes, square);
}

// total[c] += row[c] / |row|
template <class scalar_t, class acc_t>
DFOPS_INLINE void add_normalized(const Rows<scalar_t>& rows, int64_t channels, acc_t* total) {
  acc_t inverse[kLanes];
  squares_of(rows, channels, inverse);
#pragma omp simd
  for (int l = 0; l < kLanes; ++l) inverse[l] = inverse_norm(inverse[l]);
  for (int64_t c = 0; c < channels; ++c) {
    const scalar_t* row = rows.data + c * rows.step;
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) total[c * kLanes + l] += acc_t(row[l]) * inverse[l];
  }
}

// square = |row|^2, dot = row . total
template <class scalar_t, class acc_t>
DFOPS_INLINE void squares_and_dots(const Rows<scalar_t>& rows, int64_t channels, const acc_t* total, acc_t* square,
                                   acc_t* dot) {
  acc_t squares[kLanes] = {}, dots[kLanes] = {};
  for (int64_t c = 0; c < channels; ++c) {
    const scalar_t* row = rows.data + c * rows.step;
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      squares[l] += acc_t(row[l]) * acc_t(row[l]);
      dots[l] += acc_t(row[l]) * total[c * kLanes + l];
    }
  }
  std::copy(squares, squares + kLanes, square);
  std::copy(dots, dots + kLanes, dot);
}

// ---- CPU: the map -------------------------------------------------------------------------------------------------

// How many positions a block takes: long runs of memory, K of a block within the caches.
inline int64_t block_positions(int64_t channels, int64_t positions, int64_t clips, int64_t value_bytes) {
  const int64_t cache = (int64_t(128) << 10) / (channels * value_bytes + 1), share = ceil_div(clips * positions, 8);
  const int64_t most = min64(1024, min64(cache, share));
  return most < kLanes ? kLanes : most / kLanes * kLanes;
}

template <class scalar_t>
struct MapScratch {
  std::vector<acc_type<scalar_t>> total, s;
  std::vector<scalar_t> tile;
  MapScratch(int64_t frames, int64_t channels, int64_t block)
      : total(channels * block), s(frames * block), tile(channels * kLanes, scalar_t(0.0f)) {}
};

// s (B, T, P) and, unless null, variance (B, P) of positions [first, last) of clip b.
template <class scalar_t>
DFOPS_CLONES void map_range(acc_type<scalar_t>* s, acc_type<scalar_t>* variance, Clip<const scalar_t> query,
                            Clip<const scalar_t> key, acc_type<scalar_t> min_variance, int64_t b, int64_t first,
                            int64_t last, MapScratch<scalar_t>& scratch) {
  using acc_t = acc_type<scalar_t>;
  const int64_t frames = query.frames, channels = query.channels, positions = query.positions;
  const int64_t tiles = ceil_div(last - first, kLanes);
  acc_t* const total = scratch.total.data();
  acc_t* const local_s = scratch.s.data();
  std::fill(total, total + tiles * channels * kLanes, acc_t(0));
  for (int64_t t = 0; t < frames; ++t)
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t p = first + i * kLanes;
      add_normalized(rows_of(key, b, t, p, min64(kLanes, last - p), scratch.tile.data()), channels,
                     total + i * channels * kLanes);
    }
  for (int64_t t = 0; t < frames; ++t)
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t p = first + i * kLanes, lanes = min64(kLanes, last - p);
      acc_t square[kLanes], dot[kLanes];
      squares_and_dots(rows_of(query, b, t, p, lanes, scratch.tile.data()), channels, total + i * channels * kLanes,
                       square, dot);
      acc_t* const row = local_s + (i * frames + t) * kLanes;
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) row[l] = difference_at(dot[l], inverse_norm(square[l]), acc_t(frames));
      std::copy(row, row + lanes, s + (b * frames + t) * positions + p);
    }
  if (variance == nullptr) return;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t p = first + i * kLanes, lanes = min64(kLanes, last - p);
    const acc_t* const rows = local_s + i * frames * kLanes;
    // variance_at, the lanes in the inner loops
    acc_t mean[kLanes] = {}, sum[kLanes];
    for (int64_t t = 1; t < frames; ++t)
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) mean[l] += rows[t * kLanes + l] - rows[l];
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      mean[l] /= acc_t(frames);
      sum[l] = mean[l] * mean[l];
    }
    for (int64_t t = 1; t < frames; ++t)
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) {
        const acc_t d = (rows[t * kLanes + l] - rows[l]) - mean[l];
        sum[l] += d * d;
      }
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const acc_t v = sum[l] / acc_t(frames - 1);
      sum[l] = v < min_variance ? acc_t(0) : v;
    }
    std::copy(sum, sum + lanes, variance + b * positions + p);
  }
}

// ---- CPU: the selection -------------------------------------------------------------------------------------------

// The num_keep-th largest of `variance` (count,), 1 <= num_keep <= count: a histogram of the leading bits, then an
// exact selection within the bin that holds it. `above` receives, ascending, the positions that rank in that bin or
// above.
template <class acc_t>
acc_t select_threshold(const acc_t* variance, int64_t count, int64_t num_keep, std::vector<int64_t>& above) {
  using key_t = key_type<acc_t>;
  // variances carry no sign, so their keys start with a one
  constexpr int kBits = 12, kShift = 8 * int(sizeof(key_t)) - 1 - kBits, kBins = 1 << kBits;
  const auto bin_of = [](key_t key) { return int64_t(key >> kShift) & (kBins - 1); };
  std::vector<int64_t> bins(kBins, 0);
  for (int64_t p = 0; p < count; ++p) ++bins[bin_of(key_of(variance[p]))];
  int64_t bin = kBins - 1, ranked = 0;
  while (ranked + bins[bin] < num_keep) ranked += bins[bin--];
  above.resize(ranked + bins[bin] + 1);  // one more than needed, so that the write below needs no branch
  std::vector<key_t> keys(bins[bin] + 1);
  int64_t candidates = 0, members = 0;
  for (int64_t p = 0; p < count; ++p) {
    const key_t key = key_of(variance[p]);
    above[candidates] = p;
    candidates += bin_of(key) >= bin;
    keys[members] = key;
    members += bin_of(key) == bin;
  }
  above.resize(candidates);
  const auto nth = keys.begin() + (num_keep - ranked - 1);
  std::nth_element(keys.begin(), nth, keys.begin() + members, std::greater<key_t>());
  return value_of<acc_t>(*nth);
}

// positions (num_keep,) of one clip under "le": ascending, -1 in unused slots.
template <class acc_t>
void fill_slots(int64_t* positions, int64_t num_keep, const acc_t* variance, acc_t threshold,
                const std::vector<int64_t>& above) {
  int64_t used = 0;
  for (const int64_t p : above)
    if (used < num_keep && has_slot(variance[p], threshold)) positions[used++] = p;
  std::fill(positions + used, positions + num_keep, int64_t(-1));
}

// ---- CPU: the output ----------------------------------------------------------------------------------------------

template <class acc_t>
struct Range {
  acc_t low, high;  // NaN as soon as one value is
};

template <class acc_t>
inline void widen(Range<acc_t>& range, acc_t s) {
  if (s != s || s > range.high) range.high = range.high != range.high ? range.high : s;
  if (s != s || s < range.low) range.low = range.low != range.low ? range.low : s;
}

// One frame in slots: values (num_keep,), s (P,).
template <class scalar_t>
void values_of_frame(scalar_t* values, const acc_type<scalar_t>* s, const int64_t* positions, int64_t num_keep,
                     acc_type<scalar_t> threshold, bool normalize, acc_type<scalar_t> frames, acc_type<scalar_t> eps) {
  using acc_t = acc_type<scalar_t>;
  Range<acc_t> range{-frames, -frames};
  for (int64_t j = 0; j < num_keep && positions[j] >= 0; ++j) widen(range, s[positions[j]]);
  if (threshold != threshold) range.low = range.high = threshold;
  for (int64_t j = 0; j < num_keep; ++j) {
    if (positions[j] < 0)
      values[j] = scalar_t(0.0f);
    else if (normalize)
      values[j] = scalar_t(normalized_at(s[positions[j]], range.low, range.high, eps));
    else
      values[j] = scalar_t(threshold != threshold ? threshold : s[positions[j]]);
  }
}

// One frame in full: out (P,) of any mask; `out` may be `s`.
template <class scalar_t>
DFOPS_CLONES void out_of_frame(scalar_t* out, const acc_type<scalar_t>* s, const acc_type<scalar_t>* variance,
                               int64_t positions, acc_type<scalar_t> threshold, bool strict, bool normalize,
                               acc_type<scalar_t> frames, acc_type<scalar_t> eps) {
  using acc_t = acc_type<scalar_t>;
  constexpr acc_t kInfinity = std::numeric_limits<acc_t>::infinity();
  Range<acc_t> range{kInfinity, -kInfinity};
  for (int64_t p = 0; p < positions; ++p) widen(range, is_masked(variance[p], threshold, strict) ? -frames : s[p]);
  const acc_t low = range.low, high = range.high;
#pragma omp simd
  for (int64_t p = 0; p < positions; ++p) {
    const acc_t m = is_masked(variance[p], threshold, strict) ? -frames : s[p];
    out[p] = scalar_t(normalize ? normalized_at(m, low, high, eps) : m);
  }
}

// One frame in full under "le" where the slots tell all: out (P,) and s (P,) may be one array. `kept` (num_keep,)
// is scratch.
template <class scalar_t>
void out_of_slots(scalar_t* out, const acc_type<scalar_t>* s, int64_t count, const int64_t* positions, int64_t num_keep,
                  bool normalize, acc_type<scalar_t> frames, acc_type<scalar_t> eps, acc_type<scalar_t>* kept) {
  using acc_t = acc_type<scalar_t>;
  Range<acc_t> range{-frames, -frames};
  int64_t used = 0;
  for (; used < num_keep && positions[used] >= 0; ++used) widen(range, kept[used] = s[positions[used]]);
  // a NaN in the frame reaches all of it through the minimum
  std::fill(out, out + count,
            scalar_t(normalize ? normalized_at(-frames, range.low, range.high, eps) : acc_t(-frames)));
  for (int64_t j = 0; j < used; ++j)
    out[positions[j]] = scalar_t(normalize ? normalized_at(kept[j], range.low, range.high, eps) : kept[j]);
}

// ---- CPU: the gradient, on slots ----------------------------------------------------------------------------------

// Gradient of s (slots,) of one frame from `grad` of its normalised values; slots from `used` on count as masked.
// The first slot of several at the maximum takes its gradient, likewise at the minimum when nothing is masked.
template <class acc_t>
void grad_s_of_frame(acc_t* grad_s, const acc_t* grad, const acc_t* s, int64_t used, int64_t slots, bool all_kept,
                     bool normalize, acc_t frames, acc_t eps) {
  std::fill(grad_s + used, grad_s + slots, acc_t(0));
  if (!normalize || used == 0) {
    std::copy(grad, grad + used, grad_s);
    return;
  }
  Range<acc_t> range{all_kept ? s[0] : -frames, s[0]};
  int64_t lowest = 0, highest = 0;
  for (int64_t j = 1; j < used; ++j) {
    const Range<acc_t> before = range;
    widen(range, s[j]);
    if (range.high != before.high && before.high == before.high) highest = j;
    if (range.low != before.low && before.low == before.low) lowest = j;
  }
  const acc_t span = range.high - range.low + eps;
  double to_high = 0, to_low = 0;
  for (int64_t j = 0; j < used; ++j) {
    const acc_t norm = (s[j] - range.low) / span, share = grad[j] / span;
    grad_s[j] = share;
    to_high += double(share) * double(norm);
    to_low += double(share) * (double(norm) - 1);
  }
  grad_s[highest] -= acc_t(to_high);
  if (all_kept) grad_s[lowest] += acc_t(to_low);
}

template <class acc_t>
struct GradScratch {
  std::vector<acc_t> query, key, query_square, key_square, dot, grad_s, total, back;
  GradScratch(int64_t frames, int64_t channels)
      : query(frames * channels * kLanes), key(frames * channels * kLanes), query_square(frames * kLanes),
        key_square(frames * kLanes), dot(frames * kLanes), grad_s(frames * kLanes), total(channels * kLanes),
        back(channels * kLanes) {}
};

// Gradients of the tile of slots at `first` of one clip from grad_s (T, slots); all tensors (T, C, slots). Slots from
// `used` on hold anything and get zeros.
template <class scalar_t>
DFOPS_CLONES void slots_backward_tile(scalar_t* grad_query, scalar_t* grad_key, const acc_type<scalar_t>* grad_s,
                                      const scalar_t* query, const scalar_t* key, int64_t frames, int64_t channels,
                                      int64_t slots, int64_t used, int64_t first, GradScratch<acc_type<scalar_t>>& scratch) {
  using acc_t = acc_type<scalar_t>;
  const int64_t lanes = min64(kLanes, slots - first), filled = min64(lanes, used - first);
  if (filled <= 0) {
    for (int64_t row = 0; row < frames * channels; ++row) {
      std::fill(grad_query + row * slots + first, grad_query + row * slots + first + lanes, scalar_t(0.0f));
      std::fill(grad_key + row * slots + first, grad_key + row * slots + first + lanes, scalar_t(0.0f));
    }
    return;
  }
  acc_t *const q = scratch.query.data(), *const k = scratch.key.data(), *const g = scratch.grad_s.data();
  acc_t *const total = scratch.total.data(), *const back = scratch.back.data();
  for (int64_t row = 0; row < frames * channels; ++row)
    for (int64_t l = 0; l < kLanes; ++l) {
      q[row * kLanes + l] = l < filled ? acc_t(query[row * slots + first + l]) : acc_t(0);
      k[row * kLanes + l] = l < filled ? acc_t(key[row * slots + first + l]) : acc_t(0);
    }
  for (int64_t t = 0; t < frames; ++t) std::copy(grad_s + t * slots + first, grad_s + t * slots + first + lanes, g + t * kLanes);
  std::fill(total, total + channels * kLanes, acc_t(0));
  std::fill(back, back + channels * kLanes, acc_t(0));
  for (int64_t t = 0; t < frames; ++t) {
    const Rows<acc_t> rows{k + t * channels * kLanes, kLanes};
    squares_of(rows, channels, scratch.key_square.data() + t * kLanes);
    add_normalized(rows, channels, total);
  }
  for (int64_t t = 0; t < frames; ++t) {
    const Rows<acc_t> rows{q + t * channels * kLanes, kLanes};
    acc_t *const square = scratch.query_square.data() + t * kLanes, *const dot = scratch.dot.data() + t * kLanes;
    squares_and_dots(rows, channels, total, square, dot);
    acc_t weight[kLanes];  // g / |q|
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) weight[l] = g[t * kLanes + l] * inverse_norm(square[l]);
    for (int64_t c = 0; c < channels; ++c)
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) back[c * kLanes + l] += weight[l] * rows.data[c * kLanes + l];
  }
  for (int64_t t = 0; t < frames; ++t) {
    acc_t weight[kLanes], along[kLanes], key_weight[kLanes], key_along[kLanes] = {};
    const acc_t *const qt = q + t * channels * kLanes, *const kt = k + t * channels * kLanes;
    for (int64_t c = 0; c < channels; ++c)
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) key_along[l] += kt[c * kLanes + l] * back[c * kLanes + l];
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) {
      const acc_t inverse = inverse_norm(scratch.query_square[t * kLanes + l]);
      const acc_t slope = slope_of_norm(scratch.query_square[t * kLanes + l], inverse);
      weight[l] = -(g[t * kLanes + l] * inverse);
      along[l] = scratch.dot[t * kLanes + l] * inverse * slope;
      const acc_t key_inverse = inverse_norm(scratch.key_square[t * kLanes + l]);
      const acc_t key_slope = slope_of_norm(scratch.key_square[t * kLanes + l], key_inverse);
      key_weight[l] = -key_inverse;
      key_along[l] = key_along[l] * key_inverse * key_slope;
    }
    for (int64_t c = 0; c < channels; ++c) {
      acc_t to_query[kLanes], to_key[kLanes];
#pragma omp simd
      for (int l = 0; l < kLanes; ++l) {
        to_query[l] = weight[l] * (total[c * kLanes + l] - along[l] * qt[c * kLanes + l]);
        to_key[l] = key_weight[l] * (back[c * kLanes + l] - key_along[l] * kt[c * kLanes + l]);
      }
      const int64_t row = (t * channels + c) * slots + first;
      for (int64_t l = 0; l < lanes; ++l) {
        grad_query[row + l] = scalar_t(to_query[l]);
        grad_key[row + l] = scalar_t(to_key[l]);
      }
    }
  }
}

}  // namespace dfops::difference
