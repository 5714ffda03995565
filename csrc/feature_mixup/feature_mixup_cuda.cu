#include "common/launch.cuh"
#include "feature_mixup/feature_mixup_blocks.h"
#include "feature_mixup/feature_mixup_host.h"

namespace dfops::mixup {
namespace {

constexpr int kThreads = 256;

// 16 bytes at a time where every row begins at a multiple of them; fresh allocations do.
template <class scalar_t>
bool packs(int64_t row, const Tensor& a, const Tensor* b) {
  return aligned(a) && (!b || aligned(*b)) && row % int64_t(16 / sizeof(scalar_t)) == 0;
}

template <class scalar_t, int kPack>
void launch_forward(const ForwardCall& call) {
  launch(
      call.x, call.rows * ceil_div(call.row, kThreads * kPack), kThreads, 0,
      ForwardBody<scalar_t, kPack>{mutable_data<scalar_t>(call.out), data<scalar_t>(call.x), data<int64_t>(call.index),
                                   data<acc_type<scalar_t>>(call.lam), call.rows, call.row});
}

Tensor feature_mixup_cuda(const Tensor& x, const Tensor& index, const Tensor& lam) {
  const ForwardCall call(x, index, lam);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  if (x.numel() == 0) return call.out;
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    if (packs<scalar_t>(call.row, call.x, nullptr))
      launch_forward<scalar_t, 16 / sizeof(scalar_t)>(call);
    else
      launch_forward<scalar_t, 1>(call);
  });
  return call.out;
}

template <class scalar_t, int kPack>
void launch_backward(const BackwardCall& call, bool need_x) {
  using acc_t = acc_type<scalar_t>;
  using Body = BackwardBody<scalar_t, kPack>;
  const int64_t slices = ceil_div(call.row, kThreads * kPack);
  std::optional<Tensor> partial;
  if (call.x) partial = torch::stable::new_empty(call.grad_lam, {slices, call.rows});
  launch(call.grad, call.rows * slices, kThreads, Body::shared_bytes(kThreads),
         Body{need_x ? mutable_data<scalar_t>(call.grad_x) : nullptr, partial ? mutable_data<acc_t>(*partial) : nullptr,
              data<scalar_t>(call.grad), call.x ? data<scalar_t>(*call.x) : nullptr, data<int64_t>(call.index),
              data<acc_t>(call.lam), call.rows, call.row});
  if (partial)
    launch(call.grad, grid_for(call.rows, kThreads), kThreads, 0,
           TotalBody<acc_t>{mutable_data<acc_t>(call.grad_lam), data<acc_t>(*partial), slices, call.rows});
}

std::tuple<Tensor, Tensor> feature_mixup_backward_cuda(const Tensor& grad, const std::optional<Tensor>& x,
                                                       const Tensor& index, const Tensor& lam, bool need_x) {
  const BackwardCall call(grad, x, index, lam, need_x);
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  if (grad.numel() == 0 || (!x && !need_x)) return call.results();
  dispatch(grad, [&](auto zero) {
    using scalar_t = decltype(zero);
    if (packs<scalar_t>(call.row, call.grad, call.x ? &*call.x : nullptr))
      launch_backward<scalar_t, 16 / sizeof(scalar_t)>(call, need_x);
    else
      launch_backward<scalar_t, 1>(call, need_x);
  });
  return call.results();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("feature_mixup", TORCH_BOX(&feature_mixup_cuda));
  m.impl("_feature_mixup_backward", TORCH_BOX(&feature_mixup_backward_cuda));
}

}  // namespace dfops::mixup
