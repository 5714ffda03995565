#include "strip_merge/strip_merge_host.h"
#include "strip_merge/strip_merge_loops.h"

namespace dfops::merge {
namespace {

// Elements of the output a thread takes at a time, at least.
constexpr int64_t kGrain = 32768;

// Calls f(begin, end) for slabs of positions, in parallel.
template <class F>
void each_slab(const Strips& strips, const F& f) {
  const int64_t slab = positions_per_slab(strips), count = strips.positions();
  const int64_t grain = ceil_div(kGrain, slab * (strips.length + 1));
  torch::stable::parallel_for(0, ceil_div(count, slab), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i * slab, min64(count, (i + 1) * slab));
  });
}

Tensor strip_merge_cpu(std::vector<Tensor> parts, int64_t size, int64_t axis) {
  const ForwardCall call(parts, size, axis);
  const Tensor& out = call.out;
  if (out.numel() == 0) return out;
  const Strips strips = clip_strips(call.sizes, call.layout, axis);
  std::vector<int64_t> lengths;
  for (const Tensor& part : parts) lengths.push_back(part.size(axis));
  const std::vector<int64_t> source = sources(lengths, size);
  dispatch(out, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto pointers = pointers_to<scalar_t>(call.parts, axis);
    each_slab(strips, [&](int64_t begin, int64_t end) {
      forward_range(mutable_data<scalar_t>(out), pointers, strips, source.data(), begin, end);
    });
  });
  return out;
}

std::vector<Tensor> strip_merge_backward_cpu(const Tensor& grad, std::vector<int64_t> lengths, int64_t axis) {
  const BackwardCall call(grad, lengths, axis);
  const Strips strips = clip_strips(sizes_of(grad), call.layout, axis);
  if (strips.positions() == 0) return call.grads;
  dispatch(grad, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto pointers = mutable_pointers_to<scalar_t>(call.grads, axis);
    each_slab(strips, [&](int64_t begin, int64_t end) {
      backward_range(pointers, data<scalar_t>(call.grad), strips, begin, end);
    });
  });
  return call.grads;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("strip_merge", TORCH_BOX(&strip_merge_cpu));
  m.impl("_strip_merge_backward", TORCH_BOX(&strip_merge_backward_cpu));
}

}  // namespace dfops::merge
