#include <tuple>

#include "common/launch.cuh"
#include "inconsistency_gate/inconsistency_gate.h"

namespace dfops::gate {
namespace {

constexpr int kThreads = 256;

template <class acc_t>
const acc_t* gamma_pointer(const std::optional<Tensor>& gamma) {
  return gamma ? data<acc_t>(*gamma) : nullptr;
}

template <class scalar_t, int kPack>
void launch_forward(const Tensor& out, const Tensor& x, const Tensor& v, const Tensor& h,
                    const std::optional<Tensor>& gamma, double scale) {
  using acc_t = acc_type<scalar_t>;
  launch(x, grid_for(ceil_div(x.numel(), kPack), kThreads), kThreads, 0,
         ForwardBody<scalar_t, kPack>{mutable_data<scalar_t>(out), data<scalar_t>(x), data<scalar_t>(v),
                                      data<scalar_t>(h), gamma_pointer<acc_t>(gamma), acc_t(scale), x.numel()});
}

Tensor inconsistency_gate_cuda(const Tensor& x, const Tensor& vertical, const Tensor& horizontal,
                               const std::optional<Tensor>& gamma, double scale) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  Tensor out = torch::stable::empty_like(x);
  const Tensor xs = in_layout_of(x, out), vs = in_layout_of(vertical, out), hs = in_layout_of(horizontal, out);
  const auto acc = in_accumulate_type_of(gamma, x);
  dispatch(x, "inconsistency_gate", [&](auto zero) {
    using scalar_t = decltype(zero);
    if (aligned({out, xs, vs, hs}))
      launch_forward<scalar_t, 16 / sizeof(scalar_t)>(out, xs, vs, hs, acc, scale);
    else
      launch_forward<scalar_t, 1>(out, xs, vs, hs, acc, scale);
  });
  return out;
}

template <class scalar_t, int kPack>
void launch_backward(const Tensor& grad_x, const Tensor& grad_v, const Tensor& grad_h, const Tensor& grad_gamma,
                     const Tensor& grad, const Tensor& x, const Tensor& v, const Tensor& h,
                     const std::optional<Tensor>& gamma, double scale) {
  using acc_t = acc_type<scalar_t>;
  const int64_t blocks = grid_for(ceil_div(x.numel(), kPack), kThreads);
  Tensor partial = torch::stable::new_empty(grad_gamma, {blocks});
  launch(x, blocks, kThreads, 0,
         BackwardBody<scalar_t, kPack>{mutable_data<scalar_t>(grad_x), mutable_data<scalar_t>(grad_v),
                                       mutable_data<scalar_t>(grad_h), mutable_data<acc_t>(partial),
                                       data<scalar_t>(grad), data<scalar_t>(x), data<scalar_t>(v), data<scalar_t>(h),
                                       gamma_pointer<acc_t>(gamma), acc_t(scale), x.numel()});
  launch(x, 1, kThreads, 0,
         TotalBody<acc_t>{mutable_data<acc_t>(grad_gamma), data<acc_t>(partial), acc_t(scale), blocks});
}

std::tuple<Tensor, Tensor, Tensor, Tensor> inconsistency_gate_backward_cuda(const Tensor& grad, const Tensor& x,
                                                                            const Tensor& vertical,
                                                                            const Tensor& horizontal,
                                                                            const std::optional<Tensor>& gamma,
                                                                            double scale) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  Tensor grad_x = torch::stable::empty_like(x), grad_v = torch::stable::empty_like(x),
         grad_h = torch::stable::empty_like(x);
  const Tensor gs = in_layout_of(grad, grad_x), xs = in_layout_of(x, grad_x), vs = in_layout_of(vertical, grad_x),
               hs = in_layout_of(horizontal, grad_x);
  const auto acc = in_accumulate_type_of(gamma, x);
  Tensor grad_gamma = torch::stable::new_empty(x, {int64_t(1)}, accumulate_type(x.scalar_type()));
  dispatch(x, "inconsistency_gate_backward", [&](auto zero) {
    using scalar_t = decltype(zero);
    // fresh allocations are aligned; the inputs decide
    if (aligned({gs, xs, vs, hs}))
      launch_backward<scalar_t, 16 / sizeof(scalar_t)>(grad_x, grad_v, grad_h, grad_gamma, gs, xs, vs, hs, acc, scale);
    else
      launch_backward<scalar_t, 1>(grad_x, grad_v, grad_h, grad_gamma, gs, xs, vs, hs, acc, scale);
  });
  return {grad_x, grad_v, grad_h, grad_gamma};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("inconsistency_gate", TORCH_BOX(&inconsistency_gate_cuda));
  m.impl("_inconsistency_gate_backward", TORCH_BOX(&inconsistency_gate_backward_cuda));
}

}  // namespace dfops::gate
