// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include <tuple>

#include "common/tensor.h"

namespace dfops::mixup {

// `name` is that of the tensor whose rows are blended.
inline void check_arguments(const char* name, const Tensor& x, const Tensor& index, const Tensor& lam) {
  check_floating(name, x);
  STD_TORCH_CHECK(x.dim() >= 1, name, " must have at least one axis, got shape ()");
  check_index("index", index, name, x);
  check_sizes("index", index, "(N,)", {x.size(0)});
  check_numbers("lam", lam, name, x);
  check_sizes("lam", lam, "(N,)", {x.size(0)});
}

inline int64_t row_size(const Tensor& x) {
  int64_t size = 1;
  for (int64_t d = 1; d < x.dim(); ++d) size *= x.size(d);
  return size;
}

// Rows one after the other; within a row the order of memory is that of x where it allows that.
inline Tensor empty_rows(const Tensor& x) {
  Tensor result = torch::stable::empty_like(x);
  return x.size(0) > 1 && result.stride(0) != row_size(x) ? torch::stable::new_empty(x, sizes_of(x)) : result;
}

// Weights are one value a row in the type the kernels compute in.
struct ForwardCall {
  Tensor out, x, index, lam;
  int64_t rows, row;

  ForwardCall(const Tensor& features, const Tensor& others, const Tensor& weights)
      : out(checked(features, others, weights)),
        x(in_layout_of(features, out)),
        index(torch::stable::contiguous(others)),
        lam(torch::stable::contiguous(*in_accumulate_type_of(weights, features))),
        rows(features.size(0)),
        row(row_size(features)) {}

 private:
  static Tensor checked(const Tensor& x, const Tensor& index, const Tensor& lam) {
    check_arguments("x", x, index, lam);
    return empty_rows(x);
  }
};

// x is present where the gradient of lam is needed.
struct BackwardCall {
  Tensor grad, index, lam, grad_x, grad_lam;
  std::optional<Tensor> x;
  int64_t rows, row;

  BackwardCall(const Tensor& all, const std::optional<Tensor>& features, const Tensor& others, const Tensor& weights,
               bool need_x)
      : grad(checked(all, features, others, weights)),
        index(torch::stable::contiguous(others)),
        lam(torch::stable::contiguous(*in_accumulate_type_of(weights, all))),
        grad_x(nothing_like(all)),
        grad_lam(torch::stable::new_empty(all, {features ? all.size(0) : 0}, accumulate_type(all.scalar_type()))),
        rows(all.size(0)),
        row(row_size(all)) {
    const Tensor model = empty_rows(all);
    if (need_x) grad_x = model;
    grad = in_layout_of(all, model);
    if (features) x = in_layout_of(*features, model);
    if (features && all.numel() == 0) torch::stable::zero_(grad_lam);
  }

  std::tuple<Tensor, Tensor> results() const { return {grad_x, grad_lam}; }

 private:
  static const Tensor& checked(const Tensor& grad, const std::optional<Tensor>& x, const Tensor& index,
                               const Tensor& lam) {
    check_arguments("grad", grad, index, lam);
    if (x) check_like("x", *x, "grad", grad);
    return grad;
  }
};

}  // namespace dfops::mixup
