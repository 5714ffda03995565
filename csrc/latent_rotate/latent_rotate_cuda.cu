#include "common/launch.cuh"
#include "latent_rotate/latent_rotate_blocks.h"
#include "latent_rotate/latent_rotate_host.h"

namespace dfops::rotate {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kTile = 64;   // positions of a block: one of LSDA's maps
constexpr int64_t kPacks = 32;  // of channels

template <class scalar_t, int kPack, What kWhat>
void launch_body(const Call& call, const Tensor& in, const Tensor* out, const Tensor* grad, const Tensor* grad_angle) {
  using acc_t = acc_type<scalar_t>;
  using ThisBody = Body<scalar_t, kPack, kWhat>;
  const Maps& maps = call.maps;
  const Plan plan(maps, kTile, kPacks * kPack);
  std::optional<Tensor> partial;
  if (kWhat == What::kSlopes) partial = torch::stable::new_empty(*grad_angle, {plan.slices(), maps.count});
  launch(in, plan.blocks(), kThreads, ThisBody::shared_bytes(plan),
         ThisBody{out ? mutable_data<scalar_t>(*out) : nullptr, partial ? mutable_data<acc_t>(*partial) : nullptr,
                  data<scalar_t>(in), grad ? data<scalar_t>(*grad) : nullptr, data<acc_t>(call.angle), call.mode,
                  call.padding, plan});
  if (partial)
    launch(in, grid_for(maps.count, kThreads), kThreads, 0,
           TotalBody<acc_t>{mutable_data<acc_t>(*grad_angle), data<acc_t>(*partial), plan.slices(), maps.count});
}

// 16 bytes at a time where channels lie side by side and begin at multiples of them; fresh allocations do.
template <What kWhat>
void run(const Call& call, const Tensor& in, const Tensor* out, const Tensor* grad = nullptr,
         const Tensor* grad_angle = nullptr) {
  dispatch(in, [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = 16 / sizeof(scalar_t);
    if (call.maps.channels_last && call.maps.channels % kPack == 0 && aligned(in) && (!grad || aligned(*grad)))
      launch_body<scalar_t, kPack, kWhat>(call, in, out, grad, grad_angle);
    else
      launch_body<scalar_t, 1, kWhat>(call, in, out, grad, grad_angle);
  });
}

Tensor latent_rotate_cuda(const Tensor& x, const Tensor& angle, int64_t mode, int64_t padding) {
  const ForwardCall call(x, angle, mode, padding);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  if (x.numel() > 0) run<What::kWeights>(call, call.x, &call.out);
  return call.out;
}

std::tuple<Tensor, Tensor> latent_rotate_backward_cuda(const Tensor& grad, const std::optional<Tensor>& x,
                                                       const Tensor& angle, int64_t mode, int64_t padding,
                                                       bool need_x) {
  const BackwardCall call(grad, x, angle, mode, padding, need_x);
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  if (grad.numel() == 0) return call.results();
  if (need_x) run<What::kReaders>(call, call.grad, &call.grad_x);
  if (call.x) run<What::kSlopes>(call, *call.x, nullptr, &call.grad, &call.grad_angle);
  return call.results();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("latent_rotate", TORCH_BOX(&latent_rotate_cuda));
  m.impl("_latent_rotate_backward", TORCH_BOX(&latent_rotate_backward_cuda));
}

}  // namespace dfops::rotate
