#include "common/launch.cuh"
#include "paired_cosine/paired_cosine_blocks.h"
#include "paired_cosine/paired_cosine_host.h"

namespace dfops::cosine {
namespace {

constexpr int kThreads = 256;
// Most blocks of a launch; they loop over what is beyond.
constexpr int64_t kMostBlocks = int64_t(1) << 20;

std::tuple<Tensor, Tensor, Tensor> paired_cosine_cuda(const Tensor& anchor, const Tensor& others,
                                                      std::vector<double> signs, double eps) {
  const Inputs in(anchor, others, signs);
  const torch::stable::accelerator::DeviceGuard guard(others.get_device_index());
  auto results = new_results(others);
  if (in.empty()) return results;
  dispatch(others, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    using Body = ForwardBody<scalar_t>;
    const Plan plan(in.sizes, sizeof(scalar_t), kThreads);
    launch(others, min64(plan.tiles, kMostBlocks), kThreads, Body::shared_bytes(plan, kThreads),
           Body{results_of<acc_t>(results), maps_of<scalar_t>(in.anchor), maps_of<scalar_t>(in.others), in.sizes,
                Signs<acc_t>(signs), acc_t(eps), plan});
  });
  return results;
}

std::tuple<Tensor, Tensor> paired_cosine_backward_cuda(const Tensor& grad, const Tensor& anchor, const Tensor& others,
                                                       const Tensor& norms, const Tensor& cosines,
                                                       std::vector<double> signs, double eps, bool need_anchor,
                                                       bool need_others) {
  const BackwardCall call(grad, anchor, others, norms, cosines, signs, need_anchor, need_others);
  const torch::stable::accelerator::DeviceGuard guard(others.get_device_index());
  if (call.empty()) return call.results(anchor, others);
  dispatch(others, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    using Body = BackwardBody<scalar_t>;
    const Plan plan(call.sizes, sizeof(scalar_t), kThreads);
    // four channels a thread: few positions alone would leave most of a device idle
    const int64_t slices = ceil_div(call.sizes.channels, 4 * plan.slots);
    launch(others, min64(plan.tiles * slices, kMostBlocks), kThreads, Body::shared_bytes(call.sizes, plan),
           Body{mutable_maps_of<scalar_t>(call.grad_anchor), mutable_maps_of<scalar_t>(call.grad_others),
                data<acc_t>(call.grad), maps_of<scalar_t>(call.anchor), maps_of<scalar_t>(call.others),
                data<acc_t>(call.norms), data<acc_t>(call.cosines), call.sizes, Signs<acc_t>(signs), acc_t(eps), plan,
                slices});
  });
  return call.results(anchor, others);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("paired_cosine", TORCH_BOX(&paired_cosine_cuda));
  m.impl("_paired_cosine_backward", TORCH_BOX(&paired_cosine_backward_cuda));
}

}  // namespace dfops::cosine
