#include "common/launch.cuh"
#include "latent_rotate/latent_rotate_blocks.h"
#include "latent_rotate/latent_rotate_host.h"

namespace dfops::rotate {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kTile = 64;   // positions of a block: one of LSDA's maps
constexpr int64_t kPacks = 32;  // of channels

template <class scalar_t, int kPack, What kWhat>
void launch_body(const Tensor& in, const Tensor* out, const Tensor* grad, const Tensor& angle, const Maps& maps,
                 int64_t mode, int64_t padding, const Tensor* grad_angle) {
  using acc_t = acc_type<scalar_t>;
  using ThisBody = Body<scalar_t, kPack, kWhat>;
  const Plan plan(maps, kTile, kPacks * kPack);
  std::optional<Tensor> partial;
  if (kWhat == What::kSlopes) partial = torch::stable::new_empty(*grad_angle, {plan.slices(), maps.count});
  launch(in, plan.blocks(), kThreads, ThisBody::shared_bytes(plan),
         ThisBody{out ? mutable_data<scalar_t>(*out) : nullptr, partial ? mutable_data<acc_t>(*partial) : nullptr,
                  data<scalar_t>(in), grad ? data<scalar_t>(*grad) : nullptr, data<acc_t>(angle), Mode(mode),
                  Padding(padding), plan});
  if (partial)
    launch(in, grid_for(maps.count, kThreads), kThreads, 0,
           TotalBody<acc_t>{mutable_data<acc_t>(*grad_angle), data<acc_t>(*partial), plan.slices(), maps.count});
}

// 16 bytes at a time where channels lie side by side and begin at multiples of them; fresh allocations do.
template <What kWhat>
void run(const Tensor& in, const Tensor* out, const Tensor* grad, const Tensor& angle, const Maps& maps, int64_t mode,
         int64_t padding, const Tensor* grad_angle = nullptr) {
  dispatch(in, "latent_rotate", [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = 16 / sizeof(scalar_t);
    if (maps.channels_last && maps.channels % kPack == 0 && aligned(in) && (!grad || aligned(*grad)))
      launch_body<scalar_t, kPack, kWhat>(in, out, grad, angle, maps, mode, padding, grad_angle);
    else
      launch_body<scalar_t, 1, kWhat>(in, out, grad, angle, maps, mode, padding, grad_angle);
  });
}

Tensor latent_rotate_cuda(const Tensor& x, const Tensor& angle, int64_t mode, int64_t padding) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  check_arguments(x, angle, mode, padding);
  const ClipLayout layout = clip_layout(x);
  Tensor out = empty_clip(x, sizes_of(x), layout, x.scalar_type());
  if (x.numel() == 0) return out;
  const Tensor xs = as_clip(x, layout), as = angles(angle, x);
  run<What::kWeights>(xs, &out, nullptr, as, maps_of(x, layout), mode, padding);
  return out;
}

std::tuple<Tensor, Tensor> latent_rotate_backward_cuda(const Tensor& grad, const std::optional<Tensor>& x,
                                                       const Tensor& angle, int64_t mode, int64_t padding,
                                                       bool need_x) {
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  check_arguments(grad, angle, mode, padding);
  if (x) check_input(grad, *x);
  const ClipLayout layout = clip_layout(grad);
  auto grads = new_gradients(grad, x, layout, need_x);
  Tensor &grad_x = std::get<0>(grads), &grad_angle = std::get<1>(grads);
  const bool constant = grad.numel() == 0 || Mode(mode) == Mode::kNearest;
  if (x && constant) torch::stable::zero_(grad_angle);
  if (grad.numel() == 0) return grads;
  const Tensor gs = as_clip(grad, layout), as = angles(angle, grad);
  const Maps maps = maps_of(grad, layout);
  if (need_x) run<What::kReaders>(gs, &grad_x, nullptr, as, maps, mode, padding);
  if (x && !constant) {
    const Tensor xs = as_clip(*x, layout);
    run<What::kSlopes>(xs, nullptr, &gs, as, maps, mode, padding, &grad_angle);
  }
  return grads;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("latent_rotate", TORCH_BOX(&latent_rotate_cuda));
  m.impl("_latent_rotate_backward", TORCH_BOX(&latent_rotate_backward_cuda));
}

}  // namespace dfops::rotate
