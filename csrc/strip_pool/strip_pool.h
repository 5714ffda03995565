// y[d][s][j] = sum_m weight[d][s][c][m] * p[s][j + m - M / 2], p[s][j] = mean of x[j s .. j s + s), along one axis.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "common/portable.h"
#include "common/strip.h"

namespace dfops::strip {

// Directions, scales and taps; without a weight there is one direction, and the means are the result.
struct Filters {
  int64_t directions, scales, taps;
  const int64_t* scale;
  bool weighted;

  DFOPS_HD int64_t outputs() const { return directions * scales; }
};

// ---------------------------------------------------------------------------------------------------------------- CPU
// Work is cut into slabs: `width` neighbouring positions over the whole length, which stay in cache while every output
// of theirs is computed. A slab has one channel, or whole periods of channels.

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

template <int kTaps, bool kAdd, class out_t, class acc_t>
inline __attribute__((always_inline)) void filter_values(out_t* out, const acc_t* in, int64_t shift,
                                                         const acc_t* weight, int64_t stride, int64_t n) {
  acc_t w[kTaps];
  for (int m = 0; m < kTaps; ++m) w[m] = weight[m * stride];
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    acc_t sum = w[0] * in[i];
    for (int m = 1; m < kTaps; ++m) sum += w[m] * in[m * shift + i];
    out[i] = out_t(kAdd ? acc_t(out[i]) + sum : sum);
  }
}

template <int kTaps, bool kAdd, class out_t, class acc_t>
inline __attribute__((always_inline)) void filter_periods(out_t* out, const acc_t* in, int64_t shift,
                                                          const acc_t* weight, int64_t stride, int64_t period,
                                                          int64_t n) {
  for (int64_t first = 0; first < n; first += period) {
    const int64_t count = min64(period, n - first);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      acc_t sum = weight[i] * in[first + i];
      for (int m = 1; m < kTaps; ++m) sum += weight[m * stride + i] * in[first + m * shift + i];
      out[first + i] = out_t(kAdd ? acc_t(out[first + i]) + sum : sum);
    }
  }
}

// out[i] = (out[i] if kAdd) + sum_m w[m] in[m * shift + i]
template <bool kAdd, class out_t, class acc_t>
DFOPS_CLONES void filter_stretch(out_t* out, const acc_t* in, int64_t shift, Taps<acc_t> w, int64_t taps, int64_t n) {
  if (w.period > 0) {
    if (taps == 3) return filter_periods<3, kAdd>(out, in, shift, w.weight, w.stride, w.period, n);
    if (taps == 2) return filter_periods<2, kAdd>(out, in, shift, w.weight, w.stride, w.period, n);
    if (taps == 1) return filter_periods<1, kAdd>(out, in, shift, w.weight, w.stride, w.period, n);
  } else {
    if (taps == 3) return filter_values<3, kAdd>(out, in, shift, w.weight, w.stride, n);
    if (taps == 2) return filter_values<2, kAdd>(out, in, shift, w.weight, w.stride, n);
    if (taps == 1) return filter_values<1, kAdd>(out, in, shift, w.weight, w.stride, n);
  }
  constexpr int64_t kLanes = 64;
  const int64_t period = w.period > 0 ? w.period : n;
  for (int64_t begin = 0; begin < n; begin += period)
    for (int64_t first = begin; first < min64(n, begin + period); first += kLanes) {
      const int64_t count = min64(kLanes, min64(n, begin + period) - first);
      acc_t sum[kLanes] = {};
      for (int64_t m = 0; m < taps; ++m) {
        const acc_t* row = in + m * shift + first;
        const acc_t* weight = w.weight + m * w.stride;
        if (w.period > 0) {
#pragma omp simd
          for (int64_t i = 0; i < count; ++i) sum[i] += weight[first - begin + i] * row[i];
        } else {
#pragma omp simd
          for (int64_t i = 0; i < count; ++i) sum[i] += weight[0] * row[i];
        }
      }
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) out[first + i] = out_t(kAdd ? acc_t(out[first + i]) + sum[i] : sum[i]);
    }
}

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
inline __attribute__((always_inline)) void correlate_values(acc_t* sums, int64_t stride, const acc_t* grad,
                                                            const acc_t* in, int64_t shift, int64_t n) {
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

template <int kScale, class out_t, class scalar_t>
inline __attribute__((always_inline)) void mean_values(out_t* out, const scalar_t* x, int64_t step, int64_t stride,
                                                       int64_t n) {
  using acc_t = acc_type<scalar_t>;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    acc_t sum = acc_t(x[i * step]);
    for (int k = 1; k < kScale; ++k) sum += acc_t(x[i * step + k * stride]);
    out[i] = out_t(sum / kScale);
  }
}

// out[i] = mean over k < scale of x[k * stride + i]
template <class out_t, class scalar_t>
DFOPS_CLONES void mean_of_rows(out_t* out, const scalar_t* x, int64_t stride, int64_t scale, int64_t n) {
  using acc_t = acc_type<scalar_t>;
  if (scale == 1) return mean_values<1>(out, x, 1, stride, n);
  if (scale == 2) return mean_values<2>(out, x, 1, stride, n);
  if (scale == 4) return mean_values<4>(out, x, 1, stride, n);
  constexpr int64_t kLanes = 64;
  for (int64_t first = 0; first < n; first += kLanes) {
    const int64_t count = min64(kLanes, n - first);
    acc_t sum[kLanes] = {};
    for (int64_t k = 0; k < scale; ++k) {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) sum[i] += acc_t(x[k * stride + first + i]);
    }
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[first + i] = out_t(sum[i] / scale);
  }
}

// The same along the row: out[i] = mean over k < scale of x[i * scale + k]
template <class out_t, class scalar_t>
DFOPS_CLONES void mean_within_row(out_t* out, const scalar_t* x, int64_t scale, int64_t n) {
  using acc_t = acc_type<scalar_t>;
  if (scale == 1) return mean_values<1>(out, x, 1, 1, n);
  if (scale == 2) return mean_values<2>(out, x, 2, 1, n);
  if (scale == 4) return mean_values<4>(out, x, 4, 1, n);
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
  for (int64_t j = 0; j < rows; ++j) mean_of_rows(out + j * out_stride, x + j * scale * stride, stride, scale, width);
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

template <class acc_t>
Taps<acc_t> taps_at(const acc_t* arranged, int64_t ds, const Filters& f, const Strips& strips, const Slabs& slabs,
                    const Slabs::Slab& slab) {
  const int64_t row = slabs.period > 0 ? slabs.period : strips.channels;
  const int64_t channel = slabs.period > 0 ? 0 : strips.channel(slab.outer * strips.inner + slab.first);
  return {arranged + ds * f.taps * row + channel, row, slabs.period};
}

// Slabs [begin, end); out holds D * S arrays (outer, length / scale, inner); weight is arranged.
template <class scalar_t>
void forward_range(scalar_t* const* out, const scalar_t* x, const acc_type<scalar_t>* weight, const Filters& f,
                   const Strips& strips, const Slabs& slabs, int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
  std::vector<acc_t> buffer(f.weighted ? strips.length * slabs.width : 0);
  for (int64_t index = begin; index < end; ++index) {
    const Slabs::Slab slab = slabs.at(index);
    const scalar_t* xs = x + slab.outer * strips.length * strips.inner + slab.first;
    for (int64_t s = 0; s < f.scales; ++s) {
      const int64_t rows = strips.length / f.scale[s], offset = slab.outer * rows * strips.inner + slab.first;
      if (!f.weighted) {
        mean_rows(out[s] + offset, strips.inner, xs, strips.inner, f.scale[s], rows, slab.width);
        continue;
      }
      int64_t stride;
      const acc_t* pooled = pooled_rows(buffer.data(), xs, strips.inner, f.scale[s], rows, slab.width, &stride);
      for (int64_t ds = s; ds < f.outputs(); ds += f.scales)
        filter_rows<false>(out[ds] + offset, strips.inner, pooled, stride, rows, slab.width,
                           taps_at(weight, ds, f, strips, slabs, slab), f.taps);
    }
  }
}

// out[i] = sum over the rows
template <class scalar_t, class acc_t>
DFOPS_CLONES void add_rows(scalar_t* out, const acc_t* const* rows, int64_t count, int64_t n) {
  if (count == 3) {
    const acc_t *a = rows[0], *b = rows[1], *c = rows[2];
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = scalar_t(a[i] + b[i] + c[i]);
    return;
  }
  constexpr int64_t kLanes = 64;
  for (int64_t first = 0; first < n; first += kLanes) {
    const int64_t number = min64(kLanes, n - first);
    acc_t sum[kLanes] = {};
    for (int64_t r = 0; r < count; ++r) {
      const acc_t* row = rows[r] + first;
#pragma omp simd
      for (int64_t i = 0; i < number; ++i) sum[i] += row[i];
    }
#pragma omp simd
    for (int64_t i = 0; i < number; ++i) out[first + i] = scalar_t(sum[i]);
  }
}

// out[i * scale + k] += in[i]
template <class acc_t>
DFOPS_CLONES void spread_within_row(acc_t* out, const acc_t* in, int64_t scale, int64_t n) {
  if (scale == 1) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] += in[i];
  } else if (scale == 2) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      for (int k = 0; k < 2; ++k) out[2 * i + k] += in[i];
  } else if (scale == 4) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      for (int k = 0; k < 4; ++k) out[4 * i + k] += in[i];
  } else {
    for (int64_t i = 0; i < n; ++i) {
      const acc_t value = in[i];
#pragma omp simd
      for (int64_t k = 0; k < scale; ++k) out[i * scale + k] += value;
    }
  }
}

template <class acc_t, class scalar_t>
DFOPS_CLONES void scale_row(acc_t* out, const scalar_t* in, acc_t divisor, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = acc_t(in[i]) / divisor;
}

// Slabs [begin, end). `flipped` is the arranged weight with `flip`; grad_x may be null. `sums`, the shares of the
// weight gradient, has the shape of the arranged weight and is added to; it may be null.
template <class scalar_t>
void backward_range(scalar_t* grad_x, acc_type<scalar_t>* sums, const scalar_t* const* grads, const scalar_t* x,
                    const acc_type<scalar_t>* flipped, const Filters& f, const Strips& strips, const Slabs& slabs,
                    int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
  const int64_t row = slabs.period > 0 ? slabs.period : strips.channels;
  int64_t all_rows = 0;
  for (int64_t s = 0; s < f.scales; ++s) all_rows += strips.length / f.scale[s];
  std::vector<acc_t> through(grad_x != nullptr ? all_rows * slabs.width : 0);  // gradients of the means, over the scale
  std::vector<acc_t> means(sums != nullptr ? strips.length * slabs.width : 0);
  std::vector<acc_t> wide(std::is_same_v<scalar_t, acc_t> ? 0 : strips.length * slabs.width);
  std::vector<acc_t> line(slabs.width == 1 ? strips.length : 0);
  std::vector<const acc_t*> rows_of_x(f.scales);

  for (int64_t index = begin; index < end; ++index) {
    const Slabs::Slab slab = slabs.at(index);
    const int64_t width = slab.width, x_offset = slab.outer * strips.length * strips.inner + slab.first;
    acc_t* means_grad = through.data();
    for (int64_t s = 0; s < f.scales; ++s) {
      const int64_t rows = strips.length / f.scale[s], offset = slab.outer * rows * strips.inner + slab.first;
      if (rows == 0) continue;
      const acc_t* pooled = nullptr;
      int64_t pooled_stride = 0;
      if (sums != nullptr)
        pooled = pooled_rows(means.data(), x + x_offset, strips.inner, f.scale[s], rows, width, &pooled_stride);
      for (int64_t ds = s; ds < f.outputs(); ds += f.scales) {
        if (!f.weighted) {
          const int64_t stretch = width == strips.inner ? rows : 1;
          for (int64_t j = 0; j < rows; j += stretch)
            scale_row(means_grad + j * width, grads[ds] + offset + j * strips.inner, acc_t(f.scale[s]),
                      stretch * width);
          continue;
        }
        int64_t grad_stride;
        const acc_t* grad = pooled_rows(wide.data(), grads[ds] + offset, strips.inner, 1, rows, width, &grad_stride);
        if (grad_x != nullptr) {
          const auto taps = taps_at(flipped, ds, f, strips, slabs, slab);
          if (ds < f.scales)
            filter_rows<false>(means_grad, width, grad, grad_stride, rows, width, taps, f.taps);
          else
            filter_rows<true>(means_grad, width, grad, grad_stride, rows, width, taps, f.taps);
        }
        if (sums != nullptr) {
          const int64_t channel = slabs.period > 0 ? 0 : strips.channel(slab.outer * strips.inner + slab.first);
          correlate_rows(sums + ds * f.taps * row + channel, row, slabs.period, grad, grad_stride, pooled,
                         pooled_stride, rows, width, f.taps);
        }
      }
      means_grad += rows * width;
    }
    if (grad_x == nullptr) continue;
    if (width == 1 && strips.inner == 1) {
      std::fill(line.begin(), line.end(), acc_t(0));
      means_grad = through.data();
      for (int64_t s = 0; s < f.scales; ++s) {
        spread_within_row(line.data(), means_grad, f.scale[s], strips.length / f.scale[s]);
        means_grad += strips.length / f.scale[s];
      }
      const acc_t* only = line.data();
      add_rows(grad_x + x_offset, &only, 1, strips.length);
      continue;
    }
    for (int64_t l = 0; l < strips.length; ++l) {
      int64_t count = 0;
      means_grad = through.data();
      for (int64_t s = 0; s < f.scales; ++s) {
        const int64_t rows = strips.length / f.scale[s], j = l / f.scale[s];
        if (j < rows) rows_of_x[count++] = means_grad + j * width;
        means_grad += rows * width;
      }
      add_rows(grad_x + x_offset + l * strips.inner, rows_of_x.data(), count, width);
    }
  }
}

// grad_weight (D, S, C, M) from the shares of the chunks, in their order.
template <class scalar_t>
void add_shares(scalar_t* grad_weight, const acc_type<scalar_t>* partial, int64_t chunks, const Filters& f,
                int64_t channels, const Slabs& slabs) {
  using acc_t = acc_type<scalar_t>;
  const int64_t row = slabs.period > 0 ? slabs.period : channels, rows = f.outputs() * f.taps;
  std::vector<acc_t> sum(rows * row);
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < rows * row; ++i) sum[i] += partial[chunk * rows * row + i];
  for (int64_t ds = 0; ds < f.outputs(); ++ds)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t m = 0; m < f.taps; ++m) {
        acc_t total = 0;
        for (int64_t i = c; i < row; i += channels) total += sum[(ds * f.taps + m) * row + i];
        grad_weight[(ds * channels + c) * f.taps + m] = scalar_t(total);
      }
}

}  // namespace dfops::strip
