// The loops of the CPU: elements [begin, end) of arrays in one memory order.
#pragma once

#include "inconsistency_gate/inconsistency_gate.h"

namespace dfops::gate {

template <class scalar_t>
DFOPS_CLONES void forward_range(scalar_t* out, const scalar_t* x, const scalar_t* vertical, const scalar_t* horizontal,
                                acc_type<scalar_t> gamma, int64_t begin, int64_t end) {
  using acc_t = acc_type<scalar_t>;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i)
    out[i] = scalar_t(gate_at<acc_t>(acc_t(x[i]), acc_t(vertical[i]), acc_t(horizontal[i]), gamma));
}

// Returns the range's share of grad_gamma / scale.
template <class scalar_t>
DFOPS_CLONES acc_type<scalar_t> backward_range(scalar_t* grad_x, scalar_t* grad_vertical, scalar_t* grad_horizontal,
                                               const scalar_t* grad, const scalar_t* x, const scalar_t* vertical,
                                               const scalar_t* horizontal, acc_type<scalar_t> gamma, int64_t begin,
                                               int64_t end) {
  using acc_t = acc_type<scalar_t>;
  acc_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = begin; i < end; ++i) {
    const auto g =
        gate_backward_at<acc_t>(acc_t(grad[i]), acc_t(x[i]), acc_t(vertical[i]), acc_t(horizontal[i]), gamma);
    grad_x[i] = scalar_t(g.x);
    grad_vertical[i] = scalar_t(g.vertical);
    grad_horizontal[i] = scalar_t(g.horizontal);
    sum += g.gamma;
  }
  return sum;
}

}  // namespace dfops::gate
