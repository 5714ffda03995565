#include <tuple>

#include "common/launch.cuh"
#include "inconsistency_gate/inconsistency_gate_blocks.h"
#include "inconsistency_gate/inconsistency_gate_host.h"

namespace dfops::gate {
namespace {

constexpr int kThreads = 256;

template <class scalar_t, int kPack>
void launch_forward(const ForwardCall& call, double scale) {
  using acc_t = acc_type<scalar_t>;
  const int64_t numel = call.x.numel();
  launch(call.x, grid_for(ceil_div(numel, kPack), kThreads), kThreads, 0,
         ForwardBody<scalar_t, kPack>{mutable_data<scalar_t>(call.out), data<scalar_t>(call.x),
                                      data<scalar_t>(call.vertical), data<scalar_t>(call.horizontal),
                                      gamma_data<acc_t>(call), acc_t(scale), numel});
}

Tensor inconsistency_gate_cuda(const Tensor& x, const Tensor& vertical, const Tensor& horizontal,
                               const std::optional<Tensor>& gamma, double scale) {
  const ForwardCall call(x, vertical, horizontal, gamma);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    if (aligned({call.out, call.x, call.vertical, call.horizontal}))
      launch_forward<scalar_t, 16 / sizeof(scalar_t)>(call, scale);
    else
      launch_forward<scalar_t, 1>(call, scale);
  });
  return call.out;
}

template <class scalar_t, int kPack>
void launch_backward(const BackwardCall& call, double scale) {
  using acc_t = acc_type<scalar_t>;
  const int64_t numel = call.x.numel(), blocks = grid_for(ceil_div(numel, kPack), kThreads);
  const Tensor partial = torch::stable::new_empty(call.grad_gamma, {blocks});
  launch(
      call.x, blocks, kThreads, 0,
      BackwardBody<scalar_t, kPack>{mutable_data<scalar_t>(call.grad_x()), mutable_data<scalar_t>(call.grad_vertical),
                                    mutable_data<scalar_t>(call.grad_horizontal), mutable_data<acc_t>(partial),
                                    data<scalar_t>(call.grad), data<scalar_t>(call.x), data<scalar_t>(call.vertical),
                                    data<scalar_t>(call.horizontal), gamma_data<acc_t>(call), acc_t(scale), numel});
  launch(call.x, 1, kThreads, 0,
         TotalBody<acc_t>{mutable_data<acc_t>(call.grad_gamma), data<acc_t>(partial), acc_t(scale), blocks});
}

std::tuple<Tensor, Tensor, Tensor, Tensor> inconsistency_gate_backward_cuda(const Tensor& grad, const Tensor& x,
                                                                            const Tensor& vertical,
                                                                            const Tensor& horizontal,
                                                                            const std::optional<Tensor>& gamma,
                                                                            double scale) {
  const BackwardCall call(grad, x, vertical, horizontal, gamma);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    // fresh allocations are aligned; the inputs decide
    if (aligned({call.grad, call.x, call.vertical, call.horizontal}))
      launch_backward<scalar_t, 16 / sizeof(scalar_t)>(call, scale);
    else
      launch_backward<scalar_t, 1>(call, scale);
  });
  return call.results();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("inconsistency_gate", TORCH_BOX(&inconsistency_gate_cuda));
  m.impl("_inconsistency_gate_backward", TORCH_BOX(&inconsistency_gate_backward_cuda));
}

}  // namespace dfops::gate
