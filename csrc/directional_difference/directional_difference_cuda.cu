#include <tuple>

#include "common/launch.cuh"
#include "directional_difference/directional_difference_blocks.h"
#include "directional_difference/directional_difference_host.h"

namespace dfops::directional {
namespace {

constexpr int kThreads = 256;

// Values moved at a time: 16 bytes.
template <class scalar_t>
constexpr int kPackOf = 16 / sizeof(scalar_t);

template <class scalar_t, int kPack, int kTaps>
void launch_forward(const Planes& planes, const Tensor& out, const Tensor& x, const Tensor& weight) {
  const Plan plan(planes, weight.size(1), kPack, kThreads);
  const int64_t slices =
      min64(ceil_div(plan.all_places(), plan.groups), ceil_div(int64_t(1) << 15, plan.channel_groups));
  launch(x, plan.channel_groups * slices, kThreads, 0,
         ForwardBody<scalar_t, kPack, kTaps>{mutable_data<scalar_t>(out), data<scalar_t>(x), data<scalar_t>(weight),
                                             plan});
}

Tensor directional_difference_cuda(const Tensor& x, const Tensor& weight, int64_t axis) {
  const ForwardCall call(x, weight, axis);
  const Tensor &out = call.out, &xs = call.x, &ws = call.weight;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  if (x.numel() == 0) return out;
  const Planes planes(x.size(0), x.size(1), clip_strips(sizes_of(x), call.layout, axis));
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = kPackOf<scalar_t>;
    const bool three = weight.size(1) == 3;
    if (packs(planes, kPack) && aligned(out) && aligned(xs))
      three ? launch_forward<scalar_t, kPack, 3>(planes, out, xs, ws)
            : launch_forward<scalar_t, kPack, 0>(planes, out, xs, ws);
    else
      three ? launch_forward<scalar_t, 1, 3>(planes, out, xs, ws) : launch_forward<scalar_t, 1, 0>(planes, out, xs, ws);
  });
  return out;
}

template <class scalar_t, int kPack, int kTaps>
void launch_backward(const Planes& planes, const Tensor* grad_x, const Tensor* grad_weight, const Tensor& grad,
                     const Tensor& x, const Tensor& weight) {
  using acc_t = acc_type<scalar_t>;
  using Body = BackwardBody<scalar_t, kPack, kTaps>;
  const Plan plan(planes, weight.size(1), kPack, kThreads);
  // constants, so that the sums have one order on any device; enough blocks for the largest, few enough for the
  // partial sums to be small beside the data
  const int64_t numel = weight.numel();
  int64_t slices = min64(ceil_div(plan.all_places(), plan.groups), ceil_div(2048, plan.channel_groups));
  std::optional<Tensor> partial;
  if (grad_weight != nullptr) {
    slices = min64(slices, 1 + x.numel() / (4 * numel));
    partial = torch::stable::new_empty(x, {slices, numel}, accumulate_type(x.scalar_type()));
  }
  launch(x, plan.channel_groups * slices, kThreads, partial ? Body::shared_bytes(kThreads) : 0,
         Body{grad_x ? mutable_data<scalar_t>(*grad_x) : nullptr, partial ? mutable_data<acc_t>(*partial) : nullptr,
              data<scalar_t>(grad), data<scalar_t>(x), data<scalar_t>(weight), plan});
  if (partial)
    launch(x, grid_for(numel, kThreads), kThreads, 0,
           TotalBody<scalar_t>{mutable_data<scalar_t>(*grad_weight), data<acc_t>(*partial), slices, numel});
}

std::tuple<Tensor, Tensor> directional_difference_backward_cuda(const Tensor& grad, const Tensor& x,
                                                                const Tensor& weight, int64_t axis, bool need_x,
                                                                bool need_weight) {
  const BackwardCall call(grad, x, weight, axis, need_x, need_weight);
  const Tensor &gs = call.grad, &xs = call.x, &ws = call.weight;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  if (call.finished) return call.results();
  const Planes planes(x.size(0), x.size(1), clip_strips(sizes_of(x), call.layout, axis));
  const Tensor *to_x = need_x ? &call.grad_x : nullptr, *to_weight = need_weight ? &call.grad_weight : nullptr;
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = kPackOf<scalar_t>;
    const bool three = weight.size(1) == 3;
    // fresh allocations are aligned; the inputs decide
    if (packs(planes, kPack) && aligned(gs) && aligned(xs))
      three ? launch_backward<scalar_t, kPack, 3>(planes, to_x, to_weight, gs, xs, ws)
            : launch_backward<scalar_t, kPack, 0>(planes, to_x, to_weight, gs, xs, ws);
    else
      three ? launch_backward<scalar_t, 1, 3>(planes, to_x, to_weight, gs, xs, ws)
            : launch_backward<scalar_t, 1, 0>(planes, to_x, to_weight, gs, xs, ws);
  });
  return call.results();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("directional_difference", TORCH_BOX(&directional_difference_cuda));
  m.impl("_directional_difference_backward", TORCH_BOX(&directional_difference_backward_cuda));
}

}  // namespace dfops::directional
