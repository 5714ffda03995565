// Means and filters along one axis: what the CPU loops of several operators share.
//
// Work is cut into slabs: `width` neighbouring positions over the whole length, which stay in cache while every output
// of theirs is computed. A slab has one channel, or whole periods of channels.
#pragma once

#include <type_traits>
#include <vector>

#include "common/strip.h"

namespace dfops {

// Taps of one direction and scale for the positions of a slab: tap m is weight[m * stride] for all of them, or, with
// `period` > 0, weight[m * stride + i % period] for position i.
template <class acc_t>
struct Taps {
  const acc_t* weight;
  int64_t stride, period;
};

struct Slabs {
  int64_t width, segment, per_segment, per_outer, period;
  static constexpr int64_t kElements = 8192, kNarrowest = 64, kWidest = 1024;  // measured on 8 frames

  explicit Slabs(const Strips& s) {
    const int64_t fitting = min64(kWidest, kElements / s.length / kNarrowest * kNarrowest);
    const int64_t best = fitting > kNarrowest ? fitting : kNarrowest;
    if (s.channels_fastest()) {
      // short rows of channels are repeated, so that loops over a period are long enough
      period = s.channels * ceil_div(kNarrowest, s.channels);
      width = period * (best > period ? best / period : 1);
      segment = s.inner;
    } else {
      period = 0;
      width = best;
      segment = min64(s.run, s.inner);
    }
    width = min64(width, segment);
    per_segment = ceil_div(segment, width);
    per_outer = s.inner / segment * per_segment;
  }

  struct Slab {
    int64_t outer, first, width;  // positions first .. first + width of row `outer`
  };
  Slab at(int64_t index) const {
    const int64_t within = index % per_outer, begin = within % per_segment * width;
    return {index / per_outer, within / per_segment * segment + begin, min64(width, segment - begin)};
  }
};

// Calls f(row, first tap, taps, values) for stretches of output rows whose taps all lie inside the sequence. Rows that
// lie one after another in memory (`flat`) make one stretch.
template <class F>
void each_stretch(int64_t rows, int64_t width, int64_t taps, bool flat, const F& f) {
  const int64_t half = taps / 2;
  for (int64_t j = 0; j < rows;) {
    const int64_t first = half > j ? half - j : 0, last = min64(taps, rows - j + half);
    const int64_t many = flat && first == 0 && last == taps ? rows - half - j : 1;
    f(j, first, last - first, many * width);
    j += many;
  }
}

// What becomes of the sum for place i; a functor, since always inlined, and with that compiled for the processor at
// hand, where a lambda would not be.
template <class out_t>
struct Put {
  out_t* out;
  template <class acc_t>
  DFOPS_INLINE void operator()(int64_t i, acc_t sum) const {
    out[i] = out_t(sum);
  }
};

template <class out_t>
struct Add {
  out_t* out;
  template <class acc_t>
  DFOPS_INLINE void operator()(int64_t i, acc_t sum) const {
    out[i] = out_t(acc_t(out[i]) + sum);
  }
};

template <class out_t>
struct Subtract {
  out_t* out;
  const out_t* x;
  template <class acc_t>
  DFOPS_INLINE void operator()(int64_t i, acc_t sum) const {
    out[i] = out_t(sum - acc_t(x[i]));
  }
};

template <class out_t, class divisor_t>
struct Divide {
  out_t* out;
  divisor_t divisor;
  template <class acc_t>
  DFOPS_INLINE void operator()(int64_t i, acc_t sum) const {
    out[i] = out_t(sum / divisor);
  }
};

template <int kTaps, class acc_t, class in_t, class Store>
DFOPS_INLINE void filter_values(const Store& store, const in_t* in, int64_t shift, const acc_t* weight, int64_t stride,
                                int64_t n) {
  acc_t w[kTaps];
  for (int m = 0; m < kTaps; ++m) w[m] = weight[m * stride];
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    acc_t sum = w[0] * acc_t(in[i]);
    for (int m = 1; m < kTaps; ++m) sum += w[m] * acc_t(in[m * shift + i]);
    store(i, sum);
  }
}

template <int kTaps, class acc_t, class in_t, class Store>
DFOPS_INLINE void filter_periods(const Store& store, const in_t* in, int64_t shift, const acc_t* weight, int64_t stride,
                                 int64_t period, int64_t n) {
  for (int64_t first = 0; first < n; first += period) {
    const int64_t count = min64(period, n - first);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      acc_t sum = weight[i] * acc_t(in[first + i]);
      for (int m = 1; m < kTaps; ++m) sum += weight[m * stride + i] * acc_t(in[first + m * shift + i]);
      store(first + i, sum);
    }
  }
}

// store(i, sum_m w[m] in[m * shift + i]) for i < n
template <class acc_t, class in_t, class Store>
DFOPS_INLINE void filter_run(const Store& store, const in_t* in, int64_t shift, Taps<acc_t> w, int64_t taps,
                             int64_t n) {
  if (w.period > 0) {
    if (taps == 3) return filter_periods<3>(store, in, shift, w.weight, w.stride, w.period, n);
    if (taps == 2) return filter_periods<2>(store, in, shift, w.weight, w.stride, w.period, n);
    if (taps == 1) return filter_periods<1>(store, in, shift, w.weight, w.stride, w.period, n);
  } else {
    if (taps == 3) return filter_values<3>(store, in, shift, w.weight, w.stride, n);
    if (taps == 2) return filter_values<2>(store, in, shift, w.weight, w.stride, n);
    if (taps == 1) return filter_values<1>(store, in, shift, w.weight, w.stride, n);
  }
  constexpr int64_t kLanes = 64;
  const int64_t period = w.period > 0 ? w.period : n;
  for (int64_t begin = 0; begin < n; begin += period)
    for (int64_t first = begin; first < min64(n, begin + period); first += kLanes) {
      const int64_t count = min64(kLanes, min64(n, begin + period) - first);
      acc_t sum[kLanes] = {};
      for (int64_t m = 0; m < taps; ++m) {
        const in_t* row = in + m * shift + first;
        const acc_t* weight = w.weight + m * w.stride;
        if (w.period > 0) {
#pragma omp simd
          for (int64_t i = 0; i < count; ++i) sum[i] += weight[first - begin + i] * acc_t(row[i]);
        } else {
#pragma omp simd
          for (int64_t i = 0; i < count; ++i) sum[i] += weight[0] * acc_t(row[i]);
        }
      }
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) store(first + i, sum[i]);
    }
}

// out[i] = (out[i] if kAdd) + sum_m w[m] in[m * shift + i]
template <bool kAdd, class out_t, class acc_t>
DFOPS_CLONES void filter_stretch(out_t* out, const acc_t* in, int64_t shift, Taps<acc_t> w, int64_t taps, int64_t n) {
  filter_run(std::conditional_t<kAdd, Add<out_t>, Put<out_t>>{out}, in, shift, w, taps, n);
}

template <int kCount, class acc_t, class Store, class Row>
DFOPS_INLINE void sum_of_few_rows(const Store& store, const Row& row, int64_t n) {
  decltype(row(0)) rows[kCount];
  for (int k = 0; k < kCount; ++k) rows[k] = row(k);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    acc_t sum = acc_t(rows[0][i]);
    for (int k = 1; k < kCount; ++k) sum += acc_t(rows[k][i]);
    store(i, sum);
  }
}

// store(i, sum over k < count of row(k)[i]) for i < n
template <class acc_t, class Store, class Row>
DFOPS_INLINE void sum_of_rows(const Store& store, const Row& row, int64_t count, int64_t n) {
  if (count == 1) return sum_of_few_rows<1, acc_t>(store, row, n);
  if (count == 2) return sum_of_few_rows<2, acc_t>(store, row, n);
  if (count == 3) return sum_of_few_rows<3, acc_t>(store, row, n);
  if (count == 4) return sum_of_few_rows<4, acc_t>(store, row, n);
  constexpr int64_t kLanes = 64;
  for (int64_t first = 0; first < n; first += kLanes) {
    const int64_t number = min64(kLanes, n - first);
    acc_t sum[kLanes] = {};
    for (int64_t k = 0; k < count; ++k) {
      const auto* values = row(k) + first;
#pragma omp simd
      for (int64_t i = 0; i < number; ++i) sum[i] += acc_t(values[i]);
    }
#pragma omp simd
    for (int64_t i = 0; i < number; ++i) store(first + i, sum[i]);
  }
}

// Rows one after another in memory, and rows anywhere.
template <class T>
struct Spaced {
  const T* first;
  int64_t stride;
  DFOPS_INLINE const T* operator()(int64_t k) const { return first + k * stride; }
};

template <class T>
struct Listed {
  const T* const* rows;
  DFOPS_INLINE const T* operator()(int64_t k) const { return rows[k]; }
};

// Rows `out_stride` and `in_stride` apart.
template <bool kAdd, class out_t, class acc_t>
void filter_rows(out_t* out, int64_t out_stride, const acc_t* in, int64_t in_stride, int64_t rows, int64_t width,
                 Taps<acc_t> w, int64_t taps) {
  each_stretch(rows, width, taps, out_stride == width && in_stride == width,
               [&](int64_t j, int64_t first, int64_t count, int64_t n) {
                 filter_stretch<kAdd>(out + j * out_stride, in + (j + first - taps / 2) * in_stride, in_stride,
                                      Taps<acc_t>{w.weight + first * w.stride, w.stride, w.period}, count, n);
               });
}

template <int kTaps, class acc_t>
DFOPS_INLINE void correlate_values(acc_t* sums, int64_t stride, const acc_t* grad, const acc_t* in, int64_t shift,
                                   int64_t n) {
  static_assert(kTaps <= 3);
  acc_t a = 0, b = 0, c = 0;
#pragma omp simd reduction(+ : a, b, c)
  for (int64_t i = 0; i < n; ++i) {
    a += grad[i] * in[i];
    if (kTaps > 1) b += grad[i] * in[shift + i];
    if (kTaps > 2) c += grad[i] * in[2 * shift + i];
  }
  sums[0] += a;
  if (kTaps > 1) sums[stride] += b;
  if (kTaps > 2) sums[2 * stride] += c;
}

// sums[m * stride (+ i % period)] += sum_i grad[i] in[m * shift + i]
template <class acc_t>
DFOPS_CLONES void correlate_stretch(acc_t* sums, int64_t stride, int64_t period, const acc_t* grad, const acc_t* in,
                                    int64_t shift, int64_t taps, int64_t n) {
  if (period == 0) {
    if (taps == 3) return correlate_values<3>(sums, stride, grad, in, shift, n);
    if (taps == 2) return correlate_values<2>(sums, stride, grad, in, shift, n);
    for (int64_t m = 0; m < taps; ++m) correlate_values<1>(sums + m * stride, stride, grad, in + m * shift, shift, n);
    return;
  }
  for (int64_t first = 0; first < n; first += period) {
    const int64_t count = min64(period, n - first);
    if (taps == 3) {
      acc_t *a = sums, *b = sums + stride, *c = sums + 2 * stride;
      const acc_t *g = grad + first, *row = in + first;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) {
        a[i] += g[i] * row[i];
        b[i] += g[i] * row[shift + i];
        c[i] += g[i] * row[2 * shift + i];
      }
      continue;
    }
    for (int64_t m = 0; m < taps; ++m) {
      acc_t* sum = sums + m * stride;
      const acc_t *g = grad + first, *row = in + first + m * shift;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) sum[i] += g[i] * row[i];
    }
  }
}

template <class acc_t>
void correlate_rows(acc_t* sums, int64_t stride, int64_t period, const acc_t* grad, int64_t grad_stride,
                    const acc_t* in, int64_t in_stride, int64_t rows, int64_t width, int64_t taps) {
  each_stretch(rows, width, taps, grad_stride == width && in_stride == width,
               [&](int64_t j, int64_t first, int64_t count, int64_t n) {
                 correlate_stretch(sums + first * stride, stride, period, grad + j * grad_stride,
                                   in + (j + first - taps / 2) * in_stride, in_stride, count, n);
               });
}

// out[i] = sum over k < count of x[k * stride + i] / divisor
template <class out_t, class scalar_t>
DFOPS_CLONES void mean_of_rows(out_t* out, const scalar_t* x, int64_t stride, int64_t count, acc_type<scalar_t> divisor,
                               int64_t n) {
  using acc_t = acc_type<scalar_t>;
  sum_of_rows<acc_t>(Divide<out_t, acc_t>{out, divisor}, Spaced<scalar_t>{x, stride}, count, n);
}

template <int kScale, class out_t, class scalar_t>
DFOPS_INLINE void mean_values(out_t* out, const scalar_t* x, int64_t n) {
  using acc_t = acc_type<scalar_t>;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    acc_t sum = acc_t(x[i * kScale]);
    for (int k = 1; k < kScale; ++k) sum += acc_t(x[i * kScale + k]);
    out[i] = out_t(sum / kScale);
  }
}

// out[i] = mean over k < scale of x[i * scale + k]
template <class out_t, class scalar_t>
DFOPS_CLONES void mean_within_row(out_t* out, const scalar_t* x, int64_t scale, int64_t n) {
  using acc_t = acc_type<scalar_t>;
  if (scale == 1) return mean_values<1>(out, x, n);
  if (scale == 2) return mean_values<2>(out, x, n);
  if (scale == 4) return mean_values<4>(out, x, n);
  for (int64_t i = 0; i < n; ++i) {
    acc_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < scale; ++k) sum += acc_t(x[i * scale + k]);
    out[i] = out_t(sum / scale);
  }
}

template <class out_t, class scalar_t>
void mean_rows(out_t* out, int64_t out_stride, const scalar_t* x, int64_t stride, int64_t scale, int64_t rows,
               int64_t width) {
  if (out_stride == 1 && stride == 1) return mean_within_row(out, x, scale, rows);
  for (int64_t j = 0; j < rows; ++j)
    mean_of_rows(out + j * out_stride, x + j * scale * stride, stride, scale, acc_type<scalar_t>(scale), width);
}

// Pooled values of a slab in the type sums are made in: x itself, or what `buffer` is filled with.
template <class scalar_t>
const acc_type<scalar_t>* pooled_rows(acc_type<scalar_t>* buffer, const scalar_t* x, int64_t stride, int64_t scale,
                                      int64_t rows, int64_t width, int64_t* pooled_stride) {
  if constexpr (std::is_same_v<scalar_t, acc_type<scalar_t>>) {
    if (scale == 1) {
      *pooled_stride = stride;
      return x;
    }
  }
  *pooled_stride = width;
  mean_rows(buffer, width, x, stride, scale, rows, width);
  return buffer;
}

// The weight as slabs read it: (D, S, M, row), a row being all channels, repeated to the period where there is one.
// `flip` reverses the taps and divides by the scale, for the gradient of x.
template <class scalar_t>
std::vector<acc_type<scalar_t>> arrange_weight(const scalar_t* weight, const Filters& f, int64_t channels,
                                               const Slabs& slabs, bool flip) {
  using acc_t = acc_type<scalar_t>;
  const int64_t row = slabs.period > 0 ? slabs.period : channels;
  std::vector<acc_t> arranged(f.outputs() * f.taps * row);
  for (int64_t ds = 0; ds < f.outputs(); ++ds)
    for (int64_t m = 0; m < f.taps; ++m)
      for (int64_t i = 0; i < row; ++i) {
        const acc_t value = acc_t(weight[(ds * channels + i % channels) * f.taps + (flip ? f.taps - 1 - m : m)]);
        arranged[(ds * f.taps + m) * row + i] = flip ? value / f.scale[ds % f.scales] : value;
      }
  return arranged;
}

}  // namespace dfops
