#include <limits>
#include <tuple>

#include "common/launch.cuh"
#include "strip_pool/strip_pool_blocks.h"
#include "strip_pool/strip_pool_host.h"

namespace dfops::strip {
namespace {

constexpr int kThreads = 256;
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
Chosen choose(const Call& call, BytesOf bytes_of) {
  const Strips& strips = call.strips;
  const Filters& f = call.filters;
  const int64_t narrowest = strips.inner == 1 ? 1 : kNarrowestTile;
  for (int64_t positions = kWidestTile;; positions /= 2) {
    const Plan plan = make_plan(strips, f.directions, f.scales, f.taps, f.scale, f.weighted, positions);
    const int64_t bytes = bytes_of(plan);
    // a block numbers the elements of its tile in 32 bits
    const bool countable = plan.lanes * plan.groups * strips.length <= std::numeric_limits<int32_t>::max();
    if (bytes <= kWantedSharedBytes && countable) return {plan, bytes, true};
    if (positions <= narrowest) return {plan, bytes, bytes <= kMostSharedBytes && countable};
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
  const ForwardCall call(x, weight, axis, scales);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  check_limits(call.filters);
  if (x.numel() == 0) return call.out;
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = kPackOf<scalar_t>;
    const scalar_t* taps = call.weight_data<scalar_t>();
    const Chosen chosen =
        choose(call, [](const Plan& p) { return forward_shared_bytes(p, sizeof(acc_type<scalar_t>)); });
    if (!chosen.tiled)
      launch_direct_forward(chosen.plan, call.out, call.x, taps);
    else if (chosen.plan.packs(kPack) && aligned(call.out) && aligned(call.x))
      launch_forward<scalar_t, kPack>(chosen, call.out, call.x, taps);
    else
      launch_forward<scalar_t, 1>(chosen, call.out, call.x, taps);
  });
  return call.out;
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
  if (grad_weight != nullptr) partial = torch::stable::new_empty(x, {slices, numel}, accumulate_type(x.scalar_type()));
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
  const BackwardCall call(grads, x, weight, axis, scales, need_x, need_weight);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  check_limits(call.filters);
  if (x.numel() == 0 || (!need_x && !call.need_weight)) return call.results();
  const Tensor *to_x = need_x ? &call.grad_x : nullptr, *to_weight = call.need_weight ? &call.grad_weight : nullptr;
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = kPackOf<scalar_t>;
    const scalar_t* taps = call.weight_data<scalar_t>();
    const Chosen chosen =
        choose(call, [](const Plan& p) { return backward_shared_bytes(p, sizeof(acc_type<scalar_t>)); });
    // fresh allocations are aligned; the inputs decide
    if (!chosen.tiled)
      launch_direct_backward(chosen.plan, to_x, to_weight, call.grads, call.x, taps);
    else if (chosen.plan.packs(kPack) && aligned(call.grads) && aligned(call.x))
      launch_backward<scalar_t, kPack>(chosen, to_x, to_weight, call.grads, call.x, taps);
    else
      launch_backward<scalar_t, 1>(chosen, to_x, to_weight, call.grads, call.x, taps);
  });
  return call.results();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("strip_pool", TORCH_BOX(&strip_pool_cuda));
  m.impl("_strip_pool_backward", TORCH_BOX(&strip_pool_backward_cuda));
}

}  // namespace dfops::strip
