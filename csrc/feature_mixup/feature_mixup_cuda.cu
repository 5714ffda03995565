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
void launch_forward(const Tensor& out, const Tensor& x, const Tensor& index, const Tensor& lam) {
  const int64_t rows = x.size(0), row = row_size(x);
  launch(x, rows * ceil_div(row, kThreads * kPack), kThreads, 0,
         ForwardBody<scalar_t, kPack>{mutable_data<scalar_t>(out), data<scalar_t>(x), data<int64_t>(index),
                                      data<acc_type<scalar_t>>(lam), rows, row});
}

Tensor feature_mixup_cuda(const Tensor& x, const Tensor& index, const Tensor& lam) {
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  check_arguments(x, index, lam);
  Tensor out = empty_rows(x);
  if (x.numel() == 0) return out;
  const Tensor xs = in_layout_of(x, out), is = torch::stable::contiguous(index), ls = weights(lam, x);
  dispatch(x, "feature_mixup", [&](auto zero) {
    using scalar_t = decltype(zero);
    if (packs<scalar_t>(row_size(x), xs, nullptr))
      launch_forward<scalar_t, 16 / sizeof(scalar_t)>(out, xs, is, ls);
    else
      launch_forward<scalar_t, 1>(out, xs, is, ls);
  });
  return out;
}

template <class scalar_t, int kPack>
void launch_backward(const Tensor* grad_x, const Tensor* grad_lam, const Tensor& grad, const Tensor* x,
                     const Tensor& index, const Tensor& lam) {
  using acc_t = acc_type<scalar_t>;
  using Body = BackwardBody<scalar_t, kPack>;
  const int64_t rows = grad.size(0), row = row_size(grad), slices = ceil_div(row, kThreads * kPack);
  std::optional<Tensor> partial;
  if (grad_lam != nullptr) partial = torch::stable::new_empty(*grad_lam, {slices, rows});
  launch(grad, rows * slices, kThreads, Body::shared_bytes(kThreads),
         Body{grad_x ? mutable_data<scalar_t>(*grad_x) : nullptr, partial ? mutable_data<acc_t>(*partial) : nullptr,
              data<scalar_t>(grad), x ? data<scalar_t>(*x) : nullptr, data<int64_t>(index), data<acc_t>(lam), rows,
              row});
  if (partial)
    launch(grad, grid_for(rows, kThreads), kThreads, 0,
           TotalBody<acc_t>{mutable_data<acc_t>(*grad_lam), data<acc_t>(*partial), slices, rows});
}

std::tuple<Tensor, Tensor> feature_mixup_backward_cuda(const Tensor& grad, const std::optional<Tensor>& x,
                                                       const Tensor& index, const Tensor& lam, bool need_x) {
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  check_arguments(grad, index, lam);
  auto grads = new_gradients(grad, x, need_x);
  Tensor &grad_x = std::get<0>(grads), &grad_lam = std::get<1>(grads);
  if (x && grad.numel() == 0) torch::stable::zero_(grad_lam);
  if (grad.numel() == 0 || (!x && !need_x)) return grads;
  const Tensor model = need_x ? grad_x : empty_rows(grad);
  const Tensor gs = in_layout_of(grad, model), is = torch::stable::contiguous(index), ls = weights(lam, grad);
  std::optional<Tensor> xs;
  if (x) xs = in_layout_of(*x, model);
  const Tensor *to_x = need_x ? &grad_x : nullptr, *to_lam = x ? &grad_lam : nullptr, *from = xs ? &*xs : nullptr;
  dispatch(grad, "feature_mixup_backward", [&](auto zero) {
    using scalar_t = decltype(zero);
    if (packs<scalar_t>(row_size(grad), gs, from))
      launch_backward<scalar_t, 16 / sizeof(scalar_t)>(to_x, to_lam, gs, from, is, ls);
    else
      launch_backward<scalar_t, 1>(to_x, to_lam, gs, from, is, ls);
  });
  return grads;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("feature_mixup", TORCH_BOX(&feature_mixup_cuda));
  m.impl("_feature_mixup_backward", TORCH_BOX(&feature_mixup_backward_cuda));
}

}  // namespace dfops::mixup
