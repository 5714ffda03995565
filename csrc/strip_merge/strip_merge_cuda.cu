#include "common/launch.cuh"
#include "strip_merge/strip_merge_host.h"

namespace dfops::merge {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kTileElements = 8192;

// 16 bytes at a time where every row of positions begins at a multiple of them.
template <class scalar_t>
bool packs(const Strips& strips, const Tensor& one, const std::vector<Tensor>& others) {
  return aligned(one) && aligned(others) && strips.inner % int64_t(16 / sizeof(scalar_t)) == 0;
}

Tensor strip_merge_cuda(std::vector<Tensor> parts, int64_t size, int64_t axis) {
  const std::vector<Tensor> ps = parts_in_layout(parts, size, axis);
  const torch::stable::accelerator::DeviceGuard guard(parts[0].get_device_index());
  const ClipLayout layout = clip_layout(parts[0]);
  const auto sizes = with_length(sizes_of(parts[0]), axis, size);
  Tensor out = empty_clip(parts[0], sizes, layout, parts[0].scalar_type());
  if (out.numel() == 0) return out;
  const Strips strips = clip_strips(sizes, layout, axis);
  const Tiles tiles(strips, kTileElements);
  dispatch(out, "strip_merge", [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = 16 / sizeof(scalar_t);
    const auto pointers = pointers_to<scalar_t>(ps, axis);
    const int64_t blocks = min64(tiles.count, 1 << 16);
    if (packs<scalar_t>(strips, out, ps))
      launch(out, blocks, kThreads, 0,
             ForwardBody<scalar_t, kPack>{mutable_data<scalar_t>(out), pointers, strips, tiles});
    else
      launch(out, blocks, kThreads, 0, ForwardBody<scalar_t, 1>{mutable_data<scalar_t>(out), pointers, strips, tiles});
  });
  return out;
}

std::vector<Tensor> strip_merge_backward_cuda(const Tensor& grad, std::vector<int64_t> lengths, int64_t axis) {
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  std::vector<Tensor> grads = new_gradients(grad, lengths, axis);
  const ClipLayout layout = clip_layout(grad);
  const Tensor g = as_clip(grad, layout);
  const Strips strips = clip_strips(sizes_of(grad), layout, axis);
  if (strips.positions() == 0) return grads;
  const Tiles tiles(strips, kTileElements);
  dispatch(grad, "strip_merge_backward", [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = 16 / sizeof(scalar_t);
    const auto pointers = mutable_pointers_to<scalar_t>(grads, axis);
    const int64_t blocks = min64(tiles.count, 1 << 16);
    if (packs<scalar_t>(strips, g, grads))
      launch(grad, blocks, kThreads, 0, BackwardBody<scalar_t, kPack>{pointers, data<scalar_t>(g), strips, tiles});
    else
      launch(grad, blocks, kThreads, 0, BackwardBody<scalar_t, 1>{pointers, data<scalar_t>(g), strips, tiles});
  });
  return grads;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("strip_merge", TORCH_BOX(&strip_merge_cuda));
  m.impl("_strip_merge_backward", TORCH_BOX(&strip_merge_backward_cuda));
}

}  // namespace dfops::merge
