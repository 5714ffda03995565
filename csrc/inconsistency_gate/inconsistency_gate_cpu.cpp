#include <tuple>

#include "inconsistency_gate/inconsistency_gate_host.h"
#include "inconsistency_gate/inconsistency_gate_loops.h"

namespace dfops::gate {
namespace {

// Chunks are of one size whatever the number of threads, so the sum for gamma always has the same order.
constexpr int64_t kChunk = 16384;

template <class acc_t>
acc_t factor_of(const ForwardCall& call, double scale) {
  return call.gamma ? acc_t(scale) * *gamma_data<acc_t>(call) : acc_t(scale);
}

Tensor inconsistency_gate_cpu(const Tensor& x, const Tensor& vertical, const Tensor& horizontal,
                              const std::optional<Tensor>& gamma, double scale) {
  const ForwardCall call(x, vertical, horizontal, gamma);
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto factor = factor_of<acc_type<scalar_t>>(call, scale);
    torch::stable::parallel_for(0, x.numel(), kChunk, [&](int64_t begin, int64_t end) {
      forward_range(mutable_data<scalar_t>(call.out), data<scalar_t>(call.x), data<scalar_t>(call.vertical),
                    data<scalar_t>(call.horizontal), factor, begin, end);
    });
  });
  return call.out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> inconsistency_gate_backward_cpu(const Tensor& grad, const Tensor& x,
                                                                           const Tensor& vertical,
                                                                           const Tensor& horizontal,
                                                                           const std::optional<Tensor>& gamma,
                                                                           double scale) {
  const BackwardCall call(grad, x, vertical, horizontal, gamma);
  dispatch(x, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const acc_t factor = factor_of<acc_t>(call, scale);
    const int64_t numel = x.numel(), chunks = ceil_div(numel, kChunk);
    std::vector<acc_t> partial(chunks);
    torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk)
        partial[chunk] =
            backward_range(mutable_data<scalar_t>(call.grad_x()), mutable_data<scalar_t>(call.grad_vertical),
                           mutable_data<scalar_t>(call.grad_horizontal), data<scalar_t>(call.grad),
                           data<scalar_t>(call.x), data<scalar_t>(call.vertical), data<scalar_t>(call.horizontal),
                           factor, chunk * kChunk, min64(numel, (chunk + 1) * kChunk));
    });
    acc_t total = 0;
    for (const acc_t share : partial) total += share;
    mutable_data<acc_t>(call.grad_gamma)[0] = acc_t(scale) * total;
  });
  return call.results();
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("inconsistency_gate", TORCH_BOX(&inconsistency_gate_cpu));
  m.impl("_inconsistency_gate_backward", TORCH_BOX(&inconsistency_gate_backward_cpu));
}

}  // namespace dfops::gate
