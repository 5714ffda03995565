#include <tuple>

#include "common/launch.cuh"
#include "strip_pool/strip_pool_blocks.h"
#include "strip_pool/strip_pool_host.h"

namespace dfops::strip {
namespace {

constexpr int kThreads = 256;
// What every architecture we build for grants a block.
constexpr int64_t kMostSharedBytes = 96 * 1024;
// Tiles are made smaller until several blocks fit a multiprocessor, but no smaller than a memory sector.
constexpr int64_t kWantedSharedBytes = 40 * 1024, kWidestTile = 256, kNarrowestTile = 8;

void check_limits(const Filters& f) {
  STD_TORCH_CHECK(f.scales <= kMostScales && f.outputs() <= kMostOutputs, "on CUDA, strip_pool takes at most ",
                  kMostScales, " scales and ", kMostOutputs, " outputs, got ", f.scales, " and ", f.outputs());
}

// The plan of a tile kernel and its shared memory, or a plan for the direct kernels where no tile fits.
struct Chosen {
  Plan plan;
  int64_t shared_bytes;
  bool tiled;
};

template <class BytesOf>
Chosen choose(const Strips& strips, const Filters& f, BytesOf bytes_of) {
  const int64_t narrowest = strips.inner == 1 ? 1 : kNarrowestTile;
  for (int64_t positions = kWidestTile;; positions /= 2) {
    const Plan plan = make_plan(strips, f.directions, f.scales, f.taps, f.scale, f.weighted, positions);
    const int64_t bytes = bytes_of(plan);
    if (bytes <= kWantedSharedBytes) return {plan, bytes, true};
    if (positions <= narrowest) return {plan, bytes, bytes <= kMostSharedBytes};
  }
}

// Values moved at a time: 16 bytes of what sums are made in.
template <class scalar_t>
constexpr int kPackOf = 16 / sizeof(acc_type<scalar_t>);

template <class scalar_t, int kPack>
void launch_forward(const Chosen& chosen, const std::vector<Tensor>& out, const Tensor& x, const scalar_t* weight) {
  ForwardBody<scalar_t, kPack> body{{}, data<scalar_t>(x), weight, chosen.plan};
  for (size_t i = 0; i < out.size(); ++i) body.out[i] = mutable_data<scalar_t>(out[i]);
  const int64_t slices = min64(chosen.plan.tiles, ceil_div(int64_t(1) << 15, chosen.plan.channel_groups));
  launch(x, chosen.plan.channel_groups * slices, kThreads, chosen.shared_bytes, body);
}

template <class scalar_t>
void launch_direct_forward(const Plan& plan, const std::vector<Tensor>& out, const Tensor& x, const scalar_t* weight) {
  DirectForwardBody<scalar_t> body{{}, data<scalar_t>(x), weight, plan};
  for (size_t i = 0; i < out.size(); ++i) body.out[i] = mutable_data<scalar_t>(out[i]);
  launch(x, grid_for(x.numel(), kThreads), kThreads, 0, body);
}

std::vector<Tensor> strip_pool_cuda(const Tensor& x, const std::optional<Tensor>& weight, int64_t axis,
                                    std::vector<int64_t> scales) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Filters filters = filters_of(x, weight, axis, scales);
  check_limits(filters);
  const ClipLayout layout = clip_layout(x);
  const Strips strips = clip_strips(sizes_of(x), layout, axis);
  const Tensor xs = as_clip(x, layout);
  std::vector<Tensor> out = new_outputs(x, layout, axis, filters);
  if (x.numel() == 0) return out;
  const Tensor w = weight ? torch::stable::contiguous(*weight) : x;
  dispatch(x, "strip_pool", [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = kPackOf<scalar_t>;
    const scalar_t* taps = weight ? data<scalar_t>(w) : nullptr;
    const Chosen chosen =
        choose(strips, filters, [](const Plan& p) { return forward_shared_bytes(p, sizeof(acc_type<scalar_t>)); });
    if (!chosen.tiled)
      launch_direct_forward(chosen.plan, out, xs, taps);
    else if (chosen.plan.packs(kPack) && aligned(out) && aligned(xs))
      launch_forward<scalar_t, kPack>(chosen, out, xs, taps);
    else
      launch_forward<scalar_t, 1>(chosen, out, xs, taps);
  });
  return out;
}

template <class scalar_t, int kPack>
void launch_backward(const Chosen& chosen, const Tensor* grad_x, const Tensor* grad_weight,
                     const std::vector<Tensor>& grads, const Tensor& x, const scalar_t* weight) {
  using acc_t = acc_type<scalar_t>;
  const Plan& plan = chosen.plan;
  // constants, so that the sums have one order on any device; enough blocks for the largest, few enough for the
  // partial sums to be small beside the data
  const int64_t numel = plan.outputs() * plan.strips.channels * plan.taps;
  int64_t slices = min64(plan.tiles, ceil_div(1024, plan.channel_groups));
  if (grad_weight != nullptr) slices = min64(slices, 1 + x.numel() / (4 * numel));
  std::optional<Tensor> partial;
  if (grad_weight != nullptr)
    partial = torch::stable::new_empty(x, {slices, numel}, accumulate_type(x.scalar_type()));
  BackwardBody<scalar_t, kPack> body{{},
                                     grad_x ? mutable_data<scalar_t>(*grad_x) : nullptr,
                                     partial ? mutable_data<acc_t>(*partial) : nullptr,
                                     data<scalar_t>(x),
                                     weight,
                                     plan};
  for (size_t i = 0; i < grads.size(); ++i) body.grad[i] = data<scalar_t>(grads[i]);
  launch(x, plan.channel_groups * slices, kThreads, chosen.shared_bytes, body);
  if (partial)
    launch(x, grid_for(numel, kThreads), kThreads, 0,
           TotalBody<scalar_t>{mutable_data<scalar_t>(*grad_weight), data<acc_t>(*partial), slices, numel});
}

template <class scalar_t>
void launch_direct_backward(const Plan& plan, const Tensor* grad_x, const Tensor* grad_weight,
                            const std::vector<Tensor>& grads, const Tensor& x, const scalar_t* weight) {
  if (grad_x != nullptr) {
    DirectGradXBody<scalar_t> body{{}, mutable_data<scalar_t>(*grad_x), weight, plan};
    for (size_t i = 0; i < grads.size(); ++i) body.grad[i] = data<scalar_t>(grads[i]);
    launch(x, grid_for(x.numel(), kThreads), kThreads, 0, body);
  }
  if (grad_weight != nullptr) {
    DirectGradWeightBody<scalar_t> body{{}, mutable_data<scalar_t>(*grad_weight), data<scalar_t>(x), plan};
    for (size_t i = 0; i < grads.size(); ++i) body.grad[i] = data<scalar_t>(grads[i]);
    launch(x, min64(grad_weight->numel(), 1 << 16), kThreads, 0, body);
  }
}

std::tuple<Tensor, Tensor> strip_pool_backward_cuda(std::vector<Tensor> grads, const Tensor& x,
                                                    const std::optional<Tensor>& weight, int64_t axis,
                                                    std::vector<int64_t> scales, bool need_x, bool need_weight) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Filters filters = filters_of(x, weight, axis, scales);
  check_limits(filters);
  const ClipLayout layout = clip_layout(x);
  const Strips strips = clip_strips(sizes_of(x), layout, axis);
  const std::vector<Tensor> gs = gradients_in_layout(grads, x, layout, axis, filters);
  const Tensor xs = need_weight ? as_clip(x, layout) : x;
  Tensor grad_x = need_x ? empty_clip(x, sizes_of(x), layout, x.scalar_type()) : torch::stable::new_empty(x, {0});
  Tensor grad_weight = need_weight && weight ? torch::stable::new_empty(*weight, sizes_of(*weight))
                                             : torch::stable::new_empty(x, {0});
  need_weight = need_weight && weight && weight->numel() > 0;
  if (x.numel() == 0) {
    if (need_weight) torch::stable::zero_(grad_weight);
    return {grad_x, grad_weight};
  }
  if (!need_x && !need_weight) return {grad_x, grad_weight};
  const Tensor w = weight ? torch::stable::contiguous(*weight) : x;
  const Tensor *to_x = need_x ? &grad_x : nullptr, *to_weight = need_weight ? &grad_weight : nullptr;
  dispatch(x, "strip_pool_backward", [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = kPackOf<scalar_t>;
    const scalar_t* taps = weight ? data<scalar_t>(w) : nullptr;
    const Chosen chosen =
        choose(strips, filters, [](const Plan& p) { return backward_shared_bytes(p, sizeof(acc_type<scalar_t>)); });
    // fresh allocations are aligned; the inputs decide
    if (!chosen.tiled)
      launch_direct_backward(chosen.plan, to_x, to_weight, gs, xs, taps);
    else if (chosen.plan.packs(kPack) && aligned(gs) && aligned(xs))
      launch_backward<scalar_t, kPack>(chosen, to_x, to_weight, gs, xs, taps);
    else
      launch_backward<scalar_t, 1>(chosen, to_x, to_weight, gs, xs, taps);
  });
  return {grad_x, grad_weight};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("strip_pool", TORCH_BOX(&strip_pool_cuda));
  m.impl("_strip_pool_backward", TORCH_BOX(&strip_pool_backward_cuda));
}

}  // namespace dfops::strip
