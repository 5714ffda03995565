// The CPU loops of interframe_difference.h.
//
// A tile is a few vectors of positions, one row a channel; tails are padded to full tiles. The vectors are explicit:
// left to itself the compiler may split lanes into scalar and vector parts that contract differently, and positions
// with equal data would then no longer tie.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#if defined(__clang__) || __GNUC__ >= 12
#define DFOPS_SHUFFLES  // __builtin_shufflevector
#endif
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "interframe_difference/interframe_difference.h"

namespace dfops::difference {

// ---- Vectors and tiles --------------------------------------------------------------------------------------------

// The widest that is one register in every clone which matters: wider types live in memory where they do not fit.
#if defined(__x86_64__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kVectors = 4;  // a tile: independent sums enough to hide the latency of one

template <class acc_t>
struct VectorOf {
  typedef acc_t type __attribute__((vector_size(kVectorBytes)));
  typedef acc_t memory __attribute__((vector_size(kVectorBytes), aligned(sizeof(acc_t)), may_alias));
};
template <class acc_t>
using vector_t = typename VectorOf<acc_t>::type;
template <class acc_t>
constexpr int kWidth = kVectorBytes / int(sizeof(acc_t));
template <class acc_t>
constexpr int64_t kLanes = kVectors * kWidth<acc_t>;

// Element i of a row of vectors, in memory of any alignment.
template <class acc_t>
DFOPS_INLINE const typename VectorOf<acc_t>::memory& at(const acc_t* row, int i) {
  return *reinterpret_cast<const typename VectorOf<acc_t>::memory*>(row + i * kWidth<acc_t>);
}
template <class acc_t>
DFOPS_INLINE typename VectorOf<acc_t>::memory& at(acc_t* row, int i) {
  return *reinterpret_cast<typename VectorOf<acc_t>::memory*>(row + i * kWidth<acc_t>);
}

template <class acc_t>
struct Lanes {
  vector_t<acc_t> at[kVectors];
  DFOPS_INLINE Lanes() {
    for (auto& vector : at) vector = vector_t<acc_t>{};
  }
};

template <class vector>
DFOPS_INLINE void square_root(vector& x) {
  for (int l = 0; l < int(sizeof x / sizeof x[0]); ++l) x[l] = std::sqrt(x[l]);
}
#if defined(DFOPS_SHUFFLES) && defined(__x86_64__)
// GCC 12 splits the loop above into odd pieces.
DFOPS_INLINE void square_root(vector_t<float>& x) {
  typedef float half_t __attribute__((vector_size(16)));
  const half_t low = _mm_sqrt_ps(__builtin_shufflevector(x, x, 0, 1, 2, 3));
  const half_t high = _mm_sqrt_ps(__builtin_shufflevector(x, x, 4, 5, 6, 7));
  x = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
}
DFOPS_INLINE void square_root(vector_t<double>& x) {
  typedef double half_t __attribute__((vector_size(16)));
  const half_t low = _mm_sqrt_pd(__builtin_shufflevector(x, x, 0, 1));
  const half_t high = _mm_sqrt_pd(__builtin_shufflevector(x, x, 2, 3));
  x = __builtin_shufflevector(low, high, 0, 1, 2, 3);
}
#endif

// inverse_norm, lane by lane
template <class acc_t>
DFOPS_INLINE void to_inverse_norm(vector_t<acc_t>& square) {
  square_root(square);
  const vector_t<acc_t> least = vector_t<acc_t>{} + acc_t(kMinNorm);
  square = acc_t(1) / (square < least ? least : square);
}

// Uninitialised scratch on a cache line of its own.
template <class acc_t>
class Buffer {
 public:
  explicit Buffer(int64_t size) : bytes_(new char[size * sizeof(acc_t) + kLine]) {}
  acc_t* data() const {
    return reinterpret_cast<acc_t*>((reinterpret_cast<uintptr_t>(bytes_.get()) + kLine - 1) / kLine * kLine);
  }

 private:
  static constexpr int kLine = 64;
  std::unique_ptr<char[]> bytes_;
};

template <class acc_t>
struct Rows {
  const acc_t* data;
  int64_t step;
};

// to[c][lane] = from[lane][c]
template <class scalar_t>
DFOPS_INLINE void transpose(acc_type<scalar_t>* to, const scalar_t* from, int64_t channels, int64_t lanes) {
  using acc_t = acc_type<scalar_t>;
  for (int64_t lane = 0; lane < lanes; ++lane)
    for (int64_t c = 0; c < channels; ++c) to[c * kLanes<acc_t> + lane] = acc_t(from[lane * channels + c]);
}

#if defined(DFOPS_SHUFFLES) && defined(__x86_64__)
// Eight lanes by four channels at a time: 4 x 4 in either half of the vectors.
DFOPS_INLINE void transpose(float* to, const float* from, int64_t channels, int64_t lanes) {
  typedef float quad_t __attribute__((vector_size(16), aligned(4), may_alias));
  const int64_t whole = channels / 4 * 4, full = lanes / 8 * 8, step = kLanes<float>;
  for (int64_t lane = 0; lane < full; lane += 8)
    for (int64_t c = 0; c < whole; c += 4) {
      vector_t<float> in[4], low[2], high[2];
      for (int i = 0; i < 4; ++i) {
        const float* row = from + (lane + i) * channels + c;
        in[i] = __builtin_shufflevector(*reinterpret_cast<const quad_t*>(row),
                                        *reinterpret_cast<const quad_t*>(row + 4 * channels), 0, 1, 2, 3, 4, 5, 6, 7);
      }
      for (int i = 0; i < 2; ++i) {
        low[i] = __builtin_shufflevector(in[2 * i], in[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        high[i] = __builtin_shufflevector(in[2 * i], in[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
      }
      float* const out = to + c * step + lane;
      at(out, 0) = __builtin_shufflevector(low[0], low[1], 0, 1, 8, 9, 4, 5, 12, 13);
      at(out + step, 0) = __builtin_shufflevector(low[0], low[1], 2, 3, 10, 11, 6, 7, 14, 15);
      at(out + 2 * step, 0) = __builtin_shufflevector(high[0], high[1], 0, 1, 8, 9, 4, 5, 12, 13);
      at(out + 3 * step, 0) = __builtin_shufflevector(high[0], high[1], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int64_t lane = 0; lane < lanes; ++lane)
    for (int64_t c = lane < full ? whole : 0; c < channels; ++c) to[c * step + lane] = from[lane * channels + c];
}
#endif

// Positions [first, first + lanes) of a frame as rows: in place where memory is like that, else in `scratch`, padded
// with zeros.
template <class scalar_t>
DFOPS_INLINE Rows<acc_type<scalar_t>> rows_of(const Clip<const scalar_t>& clip, int64_t b, int64_t t, int64_t first,
                                              int64_t lanes, acc_type<scalar_t>* scratch) {
  using acc_t = acc_type<scalar_t>;
  const scalar_t* frame = clip.frame(b, t);
  if constexpr (std::is_same_v<scalar_t, acc_t>)
    if (!clip.channels_last && lanes == kLanes<acc_t>) return {frame + first, clip.positions};
  if (lanes < kLanes<acc_t>) std::fill(scratch, scratch + clip.channels * kLanes<acc_t>, acc_t(0));
  if (clip.channels_last) {
    // one stream of memory, read in bursts: ask for the next page before it is due
    constexpr int64_t kLine = 64 / int64_t(sizeof(scalar_t)), kPage = 4096 / int64_t(sizeof(scalar_t));
    const scalar_t* const next = frame + first * clip.channels + kPage;
    for (int64_t i = 0; i < clip.channels * lanes; i += kLine) __builtin_prefetch(next + i);
    transpose(scratch, frame + first * clip.channels, clip.channels, lanes);
  } else {
    for (int64_t c = 0; c < clip.channels; ++c)
      for (int64_t l = 0; l < lanes; ++l) scratch[c * kLanes<acc_t> + l] = acc_t(frame[c * clip.positions + first + l]);
  }
  return {scratch, kLanes<acc_t>};
}

template <class acc_t>
DFOPS_INLINE void add_squares(Lanes<acc_t>& square, const Rows<acc_t>& rows, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c)
    for (int i = 0; i < kVectors; ++i) {
      const vector_t<acc_t> x = at(rows.data + c * rows.step, i);
      square.at[i] += x * x;
    }
}

// total[c] += row[c] / |row|
template <class acc_t>
DFOPS_INLINE void add_normalized(acc_t* total, const Rows<acc_t>& rows, int64_t channels) {
  Lanes<acc_t> inverse;
  add_squares(inverse, rows, channels);
  for (auto& vector : inverse.at) to_inverse_norm<acc_t>(vector);
  for (int64_t c = 0; c < channels; ++c)
    for (int i = 0; i < kVectors; ++i)
      at(total + c * kLanes<acc_t>, i) += at(rows.data + c * rows.step, i) * inverse.at[i];
}

// square += |row|^2, dot += row . total
template <class acc_t>
DFOPS_INLINE void add_squares_and_dots(Lanes<acc_t>& square, Lanes<acc_t>& dot, const Rows<acc_t>& rows,
                                       const acc_t* total, int64_t channels) {
  for (int64_t c = 0; c < channels; ++c)
    for (int i = 0; i < kVectors; ++i) {
      const vector_t<acc_t> x = at(rows.data + c * rows.step, i);
      square.at[i] += x * x;
      dot.at[i] += x * at(total + c * kLanes<acc_t>, i);
    }
}

template <class acc_t>
DFOPS_INLINE void store(acc_t* to, const Lanes<acc_t>& from, int64_t lanes) {
  if (lanes == kLanes<acc_t>) {
    for (int i = 0; i < kVectors; ++i) at(to, i) = from.at[i];
  } else {
    for (int64_t l = 0; l < lanes; ++l) to[l] = from.at[l / kWidth<acc_t>][l % kWidth<acc_t>];
  }
}

// ---- The map ------------------------------------------------------------------------------------------------------

// How many positions a block takes: long runs of memory, K of a block within the caches.
template <class acc_t>
int64_t block_positions(int64_t channels, int64_t positions, int64_t clips) {
  const int64_t cache = (int64_t(128) << 10) / (channels * int64_t(sizeof(acc_t)) + 1);
  const int64_t most = min64(1024, min64(cache, ceil_div(clips * positions, 8)));
  return most < kLanes<acc_t> ? kLanes<acc_t> : most / kLanes<acc_t> * kLanes<acc_t>;
}

template <class acc_t>
struct MapScratch {
  Buffer<acc_t> total, s, tile;
  MapScratch(int64_t frames, int64_t channels, int64_t block)
      : total(channels * block), s(frames * block), tile(2 * channels * kLanes<acc_t>) {}
};

// s (B, T, P) and, unless null, variance (B, P) of positions [first, last) of clip b.
template <class scalar_t>
DFOPS_CLONES void map_range(acc_type<scalar_t>* s, acc_type<scalar_t>* variance, Clip<const scalar_t> query,
                            Clip<const scalar_t> key, acc_type<scalar_t> min_variance, int64_t b, int64_t first,
                            int64_t last, MapScratch<acc_type<scalar_t>>& scratch) {
  using acc_t = acc_type<scalar_t>;
  constexpr int64_t kTile = kLanes<acc_t>;
  const int64_t frames = query.frames, channels = query.channels, positions = query.positions;
  const int64_t tiles = ceil_div(last - first, kTile);
  acc_t* const total = scratch.total.data();
  acc_t* const tile[2] = {scratch.tile.data(), scratch.tile.data() + channels * kTile};
  std::fill(total, total + tiles * channels * kTile, acc_t(0));
  // Rows are made one tile ahead: reading back at once what was stored in smaller pieces stalls.
  for (int64_t t = 0; t < frames; ++t) {
    Rows<acc_t> next = rows_of(key, b, t, first, min64(kTile, last - first), tile[0]);
    for (int64_t i = 0; i < tiles; ++i) {
      const Rows<acc_t> rows = next;
      const int64_t after = first + (i + 1) * kTile;
      if (i + 1 < tiles) next = rows_of(key, b, t, after, min64(kTile, last - after), tile[(i + 1) % 2]);
      add_normalized(total + i * channels * kTile, rows, channels);
    }
  }
  const vector_t<acc_t> floor = vector_t<acc_t>{} - acc_t(frames);
  for (int64_t t = 0; t < frames; ++t) {
    Rows<acc_t> next = rows_of(query, b, t, first, min64(kTile, last - first), tile[0]);
    for (int64_t i = 0; i < tiles; ++i) {
      const Rows<acc_t> rows = next;
      const int64_t p = first + i * kTile, after = p + kTile;
      if (i + 1 < tiles) next = rows_of(query, b, t, after, min64(kTile, last - after), tile[(i + 1) % 2]);
      Lanes<acc_t> square, result;
      add_squares_and_dots(square, result, rows, total + i * channels * kTile, channels);
      for (int v = 0; v < kVectors; ++v) {
        to_inverse_norm<acc_t>(square.at[v]);
        const vector_t<acc_t> value = -(result.at[v] * square.at[v]);
        result.at[v] = value < floor ? floor : value;
      }
      store(scratch.s.data() + (i * frames + t) * kTile, result, kTile);
      store(s + (b * frames + t) * positions + p, result, min64(kTile, last - p));
    }
  }
  if (variance == nullptr) return;
  const vector_t<acc_t> zero{}, least = zero + min_variance;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t p = first + i * kTile;
    const acc_t* const rows = scratch.s.data() + i * frames * kTile;
    Lanes<acc_t> result;
    for (int v = 0; v < kVectors; ++v) {  // variance_at
      const vector_t<acc_t> origin = at(rows, v);
      vector_t<acc_t> mean{};
      for (int64_t t = 1; t < frames; ++t) mean += at(rows + t * kTile, v) - origin;
      mean /= acc_t(frames);
      vector_t<acc_t> sum = mean * mean;
      for (int64_t t = 1; t < frames; ++t) {
        const vector_t<acc_t> d = (at(rows + t * kTile, v) - origin) - mean;
        sum += d * d;
      }
      sum /= acc_t(frames - 1);
      result.at[v] = sum < least ? zero : sum;
    }
    store(variance + b * positions + p, result, min64(kTile, last - p));
  }
}

// ---- The selection -------------------------------------------------------------------------------------------

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

// ---- The output ----------------------------------------------------------------------------------------------

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

// ---- The gradient, on slots ----------------------------------------------------------------------------------

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
  Buffer<acc_t> query, key, grad_s, total, back;
  GradScratch(int64_t frames, int64_t channels)
      : query(frames * channels * kLanes<acc_t>),
        key(frames * channels * kLanes<acc_t>),
        grad_s(frames * kLanes<acc_t>),
        total(channels * kLanes<acc_t>),
        back(channels * kLanes<acc_t>) {}
};

// Gradients of the tile of slots at `first` of one clip from grad_s (T, slots); all tensors (T, C, slots). Slots from
// `used` on hold anything and get zeros.
template <class scalar_t>
DFOPS_CLONES void slots_backward_tile(scalar_t* grad_query, scalar_t* grad_key, const acc_type<scalar_t>* grad_s,
                                      const scalar_t* query, const scalar_t* key, int64_t frames, int64_t channels,
                                      int64_t slots, int64_t used, int64_t first,
                                      GradScratch<acc_type<scalar_t>>& scratch) {
  using acc_t = acc_type<scalar_t>;
  constexpr int64_t kTile = kLanes<acc_t>;
  const int64_t lanes = min64(kTile, slots - first), filled = min64(lanes, used - first);
  if (filled <= 0) {
    for (int64_t row = first; row < frames * channels * slots; row += slots) {
      std::fill(grad_query + row, grad_query + row + lanes, scalar_t(0.0f));
      std::fill(grad_key + row, grad_key + row + lanes, scalar_t(0.0f));
    }
    return;
  }
  acc_t *const q = scratch.query.data(), *const k = scratch.key.data(), *const g = scratch.grad_s.data();
  acc_t *const total = scratch.total.data(), *const back = scratch.back.data();
  for (int64_t row = 0; row < frames * channels; ++row)
    for (int64_t l = 0; l < kTile; ++l) {
      q[row * kTile + l] = l < filled ? acc_t(query[row * slots + first + l]) : acc_t(0);
      k[row * kTile + l] = l < filled ? acc_t(key[row * slots + first + l]) : acc_t(0);
    }
  for (int64_t t = 0; t < frames; ++t)
    for (int64_t l = 0; l < kTile; ++l) g[t * kTile + l] = l < filled ? grad_s[t * slots + first + l] : acc_t(0);
  std::fill(total, total + channels * kTile, acc_t(0));
  std::fill(back, back + channels * kTile, acc_t(0));
  for (int64_t t = 0; t < frames; ++t) add_normalized(total, {k + t * channels * kTile, kTile}, channels);
  const vector_t<acc_t> zero{}, least = zero + acc_t(kMinNorm);
  for (int64_t t = 0; t < frames; ++t) {
    acc_t *const qt = q + t * channels * kTile, *const gt = g + t * kTile;
    Lanes<acc_t> norm, along;
    add_squares_and_dots(norm, along, {qt, kTile}, total, channels);
    for (int v = 0; v < kVectors; ++v) {
      square_root(norm.at[v]);
      const auto clamped = norm.at[v] < least;
      const vector_t<acc_t> inverse = acc_t(1) / (clamped ? least : norm.at[v]);
      const vector_t<acc_t> weight = at(gt, v) * inverse;
      along.at[v] = along.at[v] * inverse * (clamped ? zero : inverse);
      for (int64_t c = 0; c < channels; ++c) {
        const vector_t<acc_t> x = at(qt + c * kTile, v);
        at(back + c * kTile, v) += weight * x;
        at(qt + c * kTile, v) = -weight * (at(total + c * kTile, v) - along.at[v] * x);
      }
    }
  }
  for (int64_t t = 0; t < frames; ++t) {
    acc_t* const kt = k + t * channels * kTile;
    Lanes<acc_t> norm, along;
    add_squares_and_dots(norm, along, {kt, kTile}, back, channels);
    for (int v = 0; v < kVectors; ++v) {
      square_root(norm.at[v]);
      const auto clamped = norm.at[v] < least;
      const vector_t<acc_t> inverse = acc_t(1) / (clamped ? least : norm.at[v]);
      along.at[v] = along.at[v] * inverse * (clamped ? zero : inverse);
      for (int64_t c = 0; c < channels; ++c) {
        const vector_t<acc_t> x = at(kt + c * kTile, v);
        at(kt + c * kTile, v) = -inverse * (at(back + c * kTile, v) - along.at[v] * x);
      }
    }
  }
  for (int64_t row = 0; row < frames * channels; ++row)
    for (int64_t l = 0; l < lanes; ++l) {
      grad_query[row * slots + first + l] = scalar_t(q[row * kTile + l]);
      grad_key[row * slots + first + l] = scalar_t(k[row * kTile + l]);
    }
}

}  // namespace dfops::difference
