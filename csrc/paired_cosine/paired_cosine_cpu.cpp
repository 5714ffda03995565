#include "paired_cosine/paired_cosine_host.h"
#include "paired_cosine/paired_cosine_loops.h"

namespace dfops::cosine {
namespace {

// Elements a thread takes at a time.
constexpr int64_t kGrain = 32768;

int64_t grain_of(const Sizes& s, const Tiles& tiles) {
  return ceil_div(kGrain, 1 + tiles.positions * s.channels * (s.others + 1));
}

std::tuple<Tensor, Tensor, Tensor> paired_cosine_cpu(const Tensor& anchor, const Tensor& others,
                                                     std::vector<double> signs, double eps) {
  const Inputs in(anchor, others, signs);
  auto results = new_results(others);
  if (in.empty()) return results;
  const Tiles tiles(in.sizes);
  dispatch(others, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const std::vector<acc_t> weights(signs.begin(), signs.end());
    torch::stable::parallel_for(0, tiles.count, grain_of(in.sizes, tiles), [&](int64_t begin, int64_t end) {
      forward_range(results_of<acc_t>(results), maps_of<scalar_t>(in.anchor), maps_of<scalar_t>(in.others), in.sizes,
                    weights.data(), acc_t(eps), tiles, begin, end);
    });
  });
  return results;
}

std::tuple<Tensor, Tensor> paired_cosine_backward_cpu(const Tensor& grad, const Tensor& anchor, const Tensor& others,
                                                      const Tensor& norms, const Tensor& cosines,
                                                      std::vector<double> signs, double eps, bool need_anchor,
                                                      bool need_others) {
  const BackwardCall call(grad, anchor, others, norms, cosines, signs, need_anchor, need_others);
  if (call.empty()) return call.results(anchor, others);
  const Tiles tiles(call.sizes);
  dispatch(others, [&](auto zero) {
    using scalar_t = decltype(zero);
    using acc_t = acc_type<scalar_t>;
    const std::vector<acc_t> weights(signs.begin(), signs.end());
    torch::stable::parallel_for(0, tiles.count, grain_of(call.sizes, tiles), [&](int64_t begin, int64_t end) {
      backward_range(mutable_maps_of<scalar_t>(call.grad_anchor), mutable_maps_of<scalar_t>(call.grad_others),
                     data<acc_t>(call.grad), maps_of<scalar_t>(call.anchor), maps_of<scalar_t>(call.others),
                     data<acc_t>(call.norms), data<acc_t>(call.cosines), call.sizes, weights.data(), acc_t(eps), tiles,
                     begin, end);
    });
  });
  return call.results(anchor, others);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("paired_cosine", TORCH_BOX(&paired_cosine_cpu));
  m.impl("_paired_cosine_backward", TORCH_BOX(&paired_cosine_backward_cpu));
}

}  // namespace dfops::cosine
