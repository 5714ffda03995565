// y[d][s][j] = sum_m weight[d][s][c][m] * p[s][j + m - M / 2], p[s][j] = mean of x[j s .. j s + s), along one axis.
// The loops of the CPU.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "common/filter_loops.h"

namespace dfops::strip {

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
  sum_of_rows<acc_t>(Put<scalar_t>{out}, Listed<acc_t>{rows}, count, n);
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
