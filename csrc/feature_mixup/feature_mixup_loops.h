// out[i] = lam[i] x[i] + (1 - lam[i]) x[index[i]] for rows of x: the loops of the CPU.
#pragma once

#include "common/portable.h"

namespace dfops::mixup {

// `count` neighbouring elements of one row.
template <class scalar_t>
DFOPS_CLONES void blend_range(scalar_t* out, const scalar_t* own, const scalar_t* other, acc_type<scalar_t> lam,
                              int64_t count) {
  using acc_t = acc_type<scalar_t>;
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) out[i] = scalar_t(lam * acc_t(own[i]) + (1 - lam) * acc_t(other[i]));
}

// grad_x of `count` elements of a row: lam of its own gradient, and 1 - lam of those of the `sources` that blend it in.
// `grad` points to the elements in the first row, rows are `row` elements long.
template <class scalar_t>
DFOPS_CLONES void gather_range(scalar_t* grad_x, const scalar_t* grad, int64_t row, int64_t own, const int64_t* sources,
                               int64_t num_sources, const acc_type<scalar_t>* lam, int64_t count) {
  using acc_t = acc_type<scalar_t>;
  constexpr int64_t kBuffer = 1024;
  acc_t sum[kBuffer];
  for (int64_t first = 0; first < count; first += kBuffer) {
    const int64_t n = min64(kBuffer, count - first);
    const scalar_t* g = grad + first;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) sum[i] = lam[own] * acc_t(g[own * row + i]);
    for (int64_t s = 0; s < num_sources; ++s) {
      const scalar_t* from = g + sources[s] * row;
      const acc_t weight = 1 - lam[sources[s]];
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) sum[i] += weight * acc_t(from[i]);
    }
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) grad_x[first + i] = scalar_t(sum[i]);
  }
}

// The share of `count` elements in the gradient of lam.
template <class scalar_t>
DFOPS_CLONES acc_type<scalar_t> lam_range(const scalar_t* grad, const scalar_t* own, const scalar_t* other,
                                          int64_t count) {
  using acc_t = acc_type<scalar_t>;
  acc_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += acc_t(grad[i]) * (acc_t(own[i]) - acc_t(other[i]));
  return sum;
}

}  // namespace dfops::mixup
