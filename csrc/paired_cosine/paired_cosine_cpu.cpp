#include "paired_cosine/paired_cosine_host.h"

namespace dfops::cosine {
namespace {

// Elements a thread takes at a time.
constexpr int64_t kGrain = 32768;

int64_t grain_of(const Sizes& s, const Tiles& tiles) {
  return ceil_div(kGrain, 1 + tiles.positions * s.channels * (s.others + 1));
}

std::tuple<Tensor, Tensor, Tensor> paired_cosine_cpu(const Tensor& anchor, const Tensor& others,
                                                     std::vector<double> signs, double eps) {
  check_arguments(anchor, others, signs);
  auto results = new_results(others);
  const Inputs in(anchor, others);
  if (in.empty()) return results;
  const Tiles tiles(in.sizes);
  dispatch(others, "paired_cosine", [&](auto zero) {
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
  check_arguments(anchor, others, signs);
  check_backward(grad, others, norms, cosines);
  const Inputs in(anchor, others);
  std::optional<Tensor> grad_anchor, grad_others;
  if (need_anchor) grad_anchor = empty_maps(anchor, in.layout);
  if (need_others) grad_others = empty_maps(others, in.layout);
  if (!in.empty()) {
    const Tensor g = torch::stable::contiguous(grad);
    const Tensor ns = torch::stable::contiguous(norms), cs = torch::stable::contiguous(cosines);
    const Tiles tiles(in.sizes);
    dispatch(others, "paired_cosine_backward", [&](auto zero) {
      using scalar_t = decltype(zero);
      using acc_t = acc_type<scalar_t>;
      const std::vector<acc_t> weights(signs.begin(), signs.end());
      torch::stable::parallel_for(0, tiles.count, grain_of(in.sizes, tiles), [&](int64_t begin, int64_t end) {
        backward_range(mutable_maps_of<scalar_t>(grad_anchor), mutable_maps_of<scalar_t>(grad_others), data<acc_t>(g),
                       maps_of<scalar_t>(in.anchor), maps_of<scalar_t>(in.others), data<acc_t>(ns), data<acc_t>(cs),
                       in.sizes, weights.data(), acc_t(eps), tiles, begin, end);
      });
    });
  }
  return {finished(grad_anchor, anchor), finished(grad_others, others)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(dfops, CPU, m) {
  m.impl("paired_cosine", TORCH_BOX(&paired_cosine_cpu));
  m.impl("_paired_cosine_backward", TORCH_BOX(&paired_cosine_backward_cpu));
}

}  // namespace dfops::cosine
