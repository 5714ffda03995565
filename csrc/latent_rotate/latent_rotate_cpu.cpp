#include "latent_rotate/latent_rotate_host.h"

namespace dfops::rotate {
namespace {

// Elements a thread takes at a time, at least.
constexpr int64_t kGrain = 32768;

int64_t grain(const Maps& maps) { return ceil_div(kGrain, maps.positions() * kLanes); }

template <class scalar_t>
void apply(const Tensor& out, const Tensor& in, const Tensor& angle, const Maps& maps, int64_t mode, int64_t padding,
           What what) {
  torch::stable::parallel_for(0, maps.count * groups(maps), grain(maps), [&](int64_t begin, int64_t end) {
    apply_range(mutable_data<scalar_t>(out), data<scalar_t>(in), data<acc_type<scalar_t>>(angle), maps, Mode(mode),
                Padding(padding), what, begin, end);
  });
}

Tensor latent_rotate_cpu(const Tensor& x, const Tensor& angle, int64_t mode, int64_t padding) {
  check_arguments(x, angle, mode, padding);
  const ClipLayout layout = clip_layout(x);
  Tensor out = empty_clip(x, sizes_of(x), layout, x.scalar_type());
  if (x.numel() == 0) return out;
  const Tensor xs = as_clip(x, layout), as = angles(angle, x);
  dispatch(x, "latent_rotate", [&](auto zero) {
    apply<decltype(zero)>(out, xs, as, maps_of(x, layout), mode, padding, What::kWeights);
  });
  return out;
}

std::tuple<Tensor, Tensor> latent_rotate_backward_cpu(const Tensor& grad, const std::optional<Tensor>& x,
                                                      const Tensor& angle, int64_t mode, int64_t padding,
                                                      bool need_x) {
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
  dispatch(grad, "latent_rotate_backward", [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    if (need_x) apply<scalar_t>(grad_x, gs, as, maps, mode, padding, What::kReaders);
    if (!x || constant) return;
    const Tensor xs = as_clip(*x, layout);
    const int64_t shares = groups(maps);
    std::vector<acc_t> partial(maps.count * shares);
    torch::stable::parallel_for(0, maps.count * shares, grain(maps), [&](int64_t begin, int64_t end) {
      slope_range(partial.data(), data<scalar_t>(gs), data<scalar_t>(xs), data<acc_t>(as), maps, Mode(mode),
                  Padding(padding), begin, end);
    });
    for (int64_t map = 0; map < maps.count; ++map) {
      acc_t total = 0;
      for (int64_t i = 0; i < shares; ++i) total += partial[map * shares + i];
      mutable_data<acc_t>(grad_angle)[map] = total;
    }
  });
  return grads;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("latent_rotate", TORCH_BOX(&latent_rotate_cpu));
  m.impl("_latent_rotate_backward", TORCH_BOX(&latent_rotate_backward_cpu));
}

}  // namespace dfops::rotate
