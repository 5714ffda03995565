#include <tuple>

#include "common/tensor.h"
#include "inconsistency_gate/inconsistency_gate.h"

namespace dfops::gate {
namespace {

// Chunks are of one size whatever the number of threads, so the sum for gamma always has the same order.
constexpr int64_t kChunk = 16384;

template <class acc_t>
acc_t factor_of(const std::optional<Tensor>& gamma, double scale) {
  return gamma ? acc_t(scale) * data<acc_t>(*gamma)[0] : acc_t(scale);
}

Tensor inconsistency_gate_cpu(const Tensor& x, const Tensor& vertical, const Tensor& horizontal,
                              const std::optional<Tensor>& gamma, double scale) {
  Tensor out = torch::stable::empty_like(x);
  const Tensor xs = in_layout_of(x, out), vs = in_layout_of(vertical, out), hs = in_layout_of(horizontal, out);
  const auto acc = in_accumulate_type_of(gamma, x);
  dispatch(x, "inconsistency_gate", [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto factor = factor_of<acc_type<scalar_t>>(acc, scale);
    torch::stable::parallel_for(0, x.numel(), kChunk, [&](int64_t begin, int64_t end) {
      forward_range(mutable_data<scalar_t>(out), data<scalar_t>(xs), data<scalar_t>(vs), data<scalar_t>(hs), factor,
                    begin, end);
    });
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> inconsistency_gate_backward_cpu(const Tensor& grad, const Tensor& x,
                                                                           const Tensor& vertical,
                                                                           const Tensor& horizontal,
                                                                           const std::optional<Tensor>& gamma,
                                                                           double scale) {
  Tensor grad_x = torch::stable::empty_like(x), grad_vertical = torch::stable::empty_like(x),
         grad_horizontal = torch::stable::empty_like(x);
  const Tensor gs = in_layout_of(grad, grad_x), xs = in_layout_of(x, grad_x), vs = in_layout_of(vertical, grad_x),
               hs = in_layout_of(horizontal, grad_x);
  const auto acc = in_accumulate_type_of(gamma, x);
  Tensor grad_gamma = torch::stable::new_empty(x, {int64_t(1)}, accumulate_type(x.scalar_type()));
  dispatch(x, "inconsistency_gate_backward", [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const acc_t factor = factor_of<acc_t>(acc, scale);
    const int64_t numel = x.numel(), chunks = ceil_div(numel, kChunk);
    std::vector<acc_t> partial(chunks);
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk)
        partial[chunk] = backward_range(mutable_data<scalar_t>(grad_x), mutable_data<scalar_t>(grad_vertical),
                                        mutable_data<scalar_t>(grad_horizontal), data<scalar_t>(gs),
                                        data<scalar_t>(xs), data<scalar_t>(vs), data<scalar_t>(hs), factor,
                                        chunk * kChunk, min64(numel, (chunk + 1) * kChunk));
    });
    acc_t total = 0;
    for (const acc_t share : partial) total += share;
    mutable_data<acc_t>(grad_gamma)[0] = acc_t(scale) * total;
  });
  return {grad_x, grad_vertical, grad_horizontal, grad_gamma};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("inconsistency_gate", TORCH_BOX(&inconsistency_gate_cpu));
  m.impl("_inconsistency_gate_backward", TORCH_BOX(&inconsistency_gate_backward_cpu));
}

}  // namespace dfops::gate
