// What both host functions do before their loops: checks that keep reads inside the tensors, and allocation.
#pragma once

#include <tuple>

#include "common/tensor.h"
#include "inconsistency_gate/inconsistency_gate.h"

namespace dfops::gate {

inline void check_arguments(const Tensor& x, const Tensor& vertical, const Tensor& horizontal,
                            const std::optional<Tensor>& gamma) {
  check_floating("x", x);
  check_like("vertical", vertical, "x", x);
  check_like("horizontal", horizontal, "x", x);
  if (!gamma) return;
  check_numbers("gamma", *gamma, "x", x);
  STD_TORCH_CHECK(gamma->numel() == 1, "gamma must have one element, got shape ", in_words(sizes_of(*gamma)));
}

// Inputs in the layout of the output, gamma in the type of the arithmetic.
struct ForwardCall {
  Tensor out, x, vertical, horizontal;
  std::optional<Tensor> gamma;

  ForwardCall(const Tensor& features, const Tensor& v, const Tensor& h, const std::optional<Tensor>& factor)
      : out(checked(features, v, h, factor)),
        x(in_layout_of(features, out)),
        vertical(in_layout_of(v, out)),
        horizontal(in_layout_of(h, out)),
        gamma(in_accumulate_type_of(factor, features)) {}

 private:
  static Tensor checked(const Tensor& x, const Tensor& v, const Tensor& h, const std::optional<Tensor>& gamma) {
    check_arguments(x, v, h, gamma);
    return torch::stable::empty_like(x);
  }
};

struct BackwardCall : ForwardCall {
  Tensor grad, grad_vertical, grad_horizontal, grad_gamma;

  BackwardCall(const Tensor& all, const Tensor& features, const Tensor& v, const Tensor& h,
               const std::optional<Tensor>& factor)
      : ForwardCall(features, v, h, factor),
        grad(all),
        grad_vertical(torch::stable::empty_like(features)),
        grad_horizontal(torch::stable::empty_like(features)),
        grad_gamma(torch::stable::new_empty(features, {int64_t(1)}, accumulate_type(features.scalar_type()))) {
    check_like("grad", all, "x", features);
    grad = in_layout_of(all, out);
  }

  const Tensor& grad_x() const { return out; }
  std::tuple<Tensor, Tensor, Tensor, Tensor> results() const {
    return {out, grad_vertical, grad_horizontal, grad_gamma};
  }
};

template <class acc_t>
const acc_t* gamma_data(const ForwardCall& call) {
  return call.gamma ? data<acc_t>(*call.gamma) : nullptr;
}

}  // namespace dfops::gate
