#include <tuple>

#include "strip_pool/strip_pool_host.h"
#include "strip_pool/strip_pool_loops.h"

namespace dfops::strip {
namespace {

// Elements of x a thread takes at a time.
constexpr int64_t kGrain = 32768;

std::vector<Tensor> strip_pool_cpu(const Tensor& x, const std::optional<Tensor>& weight, int64_t axis,
                                   std::vector<int64_t> scales) {
  const ForwardCall call(x, weight, axis, scales);
  if (x.numel() == 0) return call.out;
  const Strips& strips = call.strips;
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    const Slabs slabs(strips);
    std::vector<acc_type<scalar_t>> arranged;
    if (weight) arranged = arrange_weight(call.weight_data<scalar_t>(), call.filters, strips.channels, slabs, false);
    std::vector<scalar_t*> pointers;
    for (const Tensor& tensor : call.out) pointers.push_back(mutable_data<scalar_t>(tensor));
    torch::stable::parallel_for(0, strips.outer * slabs.per_outer, ceil_div(kGrain, slabs.width * strips.length),
                                [&](int64_t begin, int64_t end) {
                                  forward_range(pointers.data(), data<scalar_t>(call.x), arranged.data(), call.filters,
                                                strips, slabs, begin, end);
                                });
  });
  return call.out;
}

std::tuple<Tensor, Tensor> strip_pool_backward_cpu(std::vector<Tensor> grads, const Tensor& x,
                                                   const std::optional<Tensor>& weight, int64_t axis,
                                                   std::vector<int64_t> scales, bool need_x, bool need_weight) {
  const BackwardCall call(grads, x, weight, axis, scales, need_x, need_weight);
  if (x.numel() == 0) return call.results();
  const Strips& strips = call.strips;
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const Slabs slabs(strips);
    std::vector<acc_t> flipped;
    if (weight) flipped = arrange_weight(call.weight_data<scalar_t>(), call.filters, strips.channels, slabs, true);
    std::vector<const scalar_t*> pointers;
    for (const Tensor& tensor : call.grads) pointers.push_back(data<scalar_t>(tensor));
    // chunks are of one size whatever the number of threads, so the sums for the weight always have the same order;
    // they are large enough for their partial sums to be small beside the data
    const int64_t count = strips.outer * slabs.per_outer, shares = call.need_weight ? int64_t(flipped.size()) : 0;
    const int64_t elements = kGrain * 2 > 8 * shares ? kGrain * 2 : 8 * shares;
    const int64_t chunk = ceil_div(count, min64(128, ceil_div(x.numel(), elements)));
    const int64_t chunks = ceil_div(count, chunk);
    std::vector<acc_t> partial(chunks * shares);
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        backward_range(need_x ? mutable_data<scalar_t>(call.grad_x) : nullptr,
                       call.need_weight ? partial.data() + i * shares : nullptr, pointers.data(),
                       data<scalar_t>(call.x), flipped.data(), call.filters, strips, slabs, i * chunk,
                       min64(count, (i + 1) * chunk));
    });
    if (call.need_weight)
      add_shares(mutable_data<scalar_t>(call.grad_weight), partial.data(), chunks, call.filters, strips.channels,
                 slabs);
  });
  return call.results();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("strip_pool", TORCH_BOX(&strip_pool_cpu));
  m.impl("_strip_pool_backward", TORCH_BOX(&strip_pool_backward_cpu));
}

}  // namespace dfops::strip
