#include "common/launch.cuh"
#include "strip_merge/strip_merge_blocks.h"
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
  const ForwardCall call(parts, size, axis);
  const Tensor& out = call.out;
  const torch::stable::accelerator::DeviceGuard guard(out.get_device_index());
  if (out.numel() == 0) return out;
  const Strips strips = clip_strips(call.sizes, call.layout, axis);
  const Tiles tiles(strips, kTileElements);
  dispatch(out, [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = 16 / sizeof(scalar_t);
    const auto pointers = pointers_to<scalar_t>(call.parts, axis);
    const int64_t blocks = min64(tiles.count, 1 << 16);
    if (packs<scalar_t>(strips, out, call.parts))
      launch(out, blocks, kThreads, 0,
             ForwardBody<scalar_t, kPack>{mutable_data<scalar_t>(out), pointers, strips, tiles});
    else
      launch(out, blocks, kThreads, 0, ForwardBody<scalar_t, 1>{mutable_data<scalar_t>(out), pointers, strips, tiles});
  });
  return out;
}

std::vector<Tensor> strip_merge_backward_cuda(const Tensor& grad, std::vector<int64_t> lengths, int64_t axis) {
  const BackwardCall call(grad, lengths, axis);
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  const Strips strips = clip_strips(sizes_of(grad), call.layout, axis);
  if (strips.positions() == 0) return call.grads;
  const Tiles tiles(strips, kTileElements);
  dispatch(grad, [&](auto zero) {
    using scalar_t = decltype(zero);
    constexpr int kPack = 16 / sizeof(scalar_t);
    const auto pointers = mutable_pointers_to<scalar_t>(call.grads, axis);
    const scalar_t* from = data<scalar_t>(call.grad);
    const int64_t blocks = min64(tiles.count, 1 << 16);
    if (packs<scalar_t>(strips, call.grad, call.grads))
      launch(grad, blocks, kThreads, 0, BackwardBody<scalar_t, kPack>{pointers, from, strips, tiles});
    else
      launch(grad, blocks, kThreads, 0, BackwardBody<scalar_t, 1>{pointers, from, strips, tiles});
  });
  return call.grads;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CUDA, m) {
  m.impl("strip_merge", TORCH_BOX(&strip_merge_cuda));
  m.impl("_strip_merge_backward", TORCH_BOX(&strip_merge_backward_cuda));
}

}  // namespace dfops::merge
