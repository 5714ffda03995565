#include "latent_rotate/latent_rotate_host.h"
#include "latent_rotate/latent_rotate_loops.h"

namespace dfops::rotate {
namespace {

// Elements a thread takes at a time, at least.
constexpr int64_t kGrain = 32768;

int64_t grain(const Maps& maps) { return ceil_div(kGrain, maps.positions() * kLanes); }

template <class scalar_t>
void apply(const Tensor& out, const Tensor& in, const Call& call, What what) {
  torch::stable::parallel_for(
      0, call.maps.count * groups(call.maps), grain(call.maps), [&](int64_t begin, int64_t end) {
        apply_range(mutable_data<scalar_t>(out), data<scalar_t>(in), data<acc_type<scalar_t>>(call.angle), call.maps,
                    call.mode, call.padding, what, begin, end);
      });
}

Tensor latent_rotate_cpu(const Tensor& x, const Tensor& angle, int64_t mode, int64_t padding) {
  const ForwardCall call(x, angle, mode, padding);
  if (x.numel() == 0) return call.out;
  dispatch(x, [&](auto zero) { apply<decltype(zero)>(call.out, call.x, call, What::kWeights); });
  return call.out;
}

std::tuple<Tensor, Tensor> latent_rotate_backward_cpu(const Tensor& grad, const std::optional<Tensor>& x,
                                                      const Tensor& angle, int64_t mode, int64_t padding, bool need_x) {
  const BackwardCall call(grad, x, angle, mode, padding, need_x);
  if (grad.numel() == 0) return call.results();
  const Maps& maps = call.maps;
  dispatch(grad, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    if (need_x) apply<scalar_t>(call.grad_x, call.grad, call, What::kReaders);
    if (!call.x) return;
    const int64_t shares = groups(maps);
    std::vector<acc_t> partial(maps.count * shares);
    torch::stable::parallel_for(0, maps.count * shares, grain(maps), [&](int64_t begin, int64_t end) {
      slope_range(partial.data(), data<scalar_t>(call.grad), data<scalar_t>(*call.x), data<acc_t>(call.angle), maps,
                  call.mode, call.padding, begin, end);
    });
    for (int64_t map = 0; map < maps.count; ++map) {
      acc_t total = 0;
      for (int64_t i = 0; i < shares; ++i) total += partial[map * shares + i];
      mutable_data<acc_t>(call.grad_angle)[map] = total;
    }
  });
  return call.results();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("latent_rotate", TORCH_BOX(&latent_rotate_cpu));
  m.impl("_latent_rotate_backward", TORCH_BOX(&latent_rotate_backward_cpu));
}

}  // namespace dfops::rotate
