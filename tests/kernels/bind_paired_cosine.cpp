#include <pybind11/stl.h>

#include "arrays.h"
#include "paired_cosine/paired_cosine_blocks.h"
#include "paired_cosine/paired_cosine_loops.h"

namespace dfops::cosine {
namespace {

// A call as a test describes it: one array holds, for every group, the anchor, the others behind it, and elements that
// belong to no map.
template <class T>
struct Call {
  Sizes sizes;
  Maps<const T> anchor, others;
  std::vector<double> signs;
  T eps;

  Call(const Array<T>& memory, const std::vector<int64_t>& shape, bool channels_fastest, std::vector<double> weights,
       T added)
      : sizes{shape[0], shape[1] - 1, shape[2], shape[3], channels_fastest}, signs(std::move(weights)), eps(added) {
    const int64_t map = sizes.channels * sizes.positions, group = memory.shape(1);
    anchor = {memory.data(), group, 0};
    others = {memory.data() + map, group, map};
  }

  std::vector<T> weights() const { return std::vector<T>(signs.begin(), signs.end()); }
};

template <class T>
struct Outputs {
  Output<T> out, norms, cosines;

  explicit Outputs(const Sizes& s)
      : out({s.groups, s.positions}),
        norms({s.groups, s.others + 1, s.positions}),
        cosines({s.groups, s.others, s.positions}) {}
  Results<T> results() { return {out.data(), norms.data(), cosines.data()}; }
  py::tuple take() { return py::make_tuple(out.take("out"), norms.take("norms"), cosines.take("cosines")); }
};

// Dense gradients, of the anchor (G, C * P) and of the others (G, K, C * P); empty where they are not needed.
template <class T>
struct Gradients {
  Output<T> anchor, others;
  Sizes sizes;

  Gradients(const Sizes& s, bool need_anchor, bool need_others)
      : anchor({need_anchor ? s.groups : 0, s.channels * s.positions}),
        others({need_others ? s.groups : 0, s.others, s.channels * s.positions}),
        sizes(s) {}
  Maps<T> to(Output<T>& output, bool needed, int64_t maps) {
    const int64_t map = sizes.channels * sizes.positions;
    return {needed ? output.data() : nullptr, maps * map, map};
  }
  py::tuple take() { return py::make_tuple(anchor.take("grad_anchor"), others.take("grad_others")); }
};

// The tiles in two ranges, cut at `cut` of them.
template <class T>
py::tuple forward(Array<T> memory, std::vector<int64_t> shape, bool channels_fastest, std::vector<double> signs, T eps,
                  int64_t tile, double cut) {
  const Call<T> call(memory, shape, channels_fastest, signs, eps);
  Outputs<T> outputs(call.sizes);
  const Tiles tiles(call.sizes, tile);
  const auto weights = call.weights();
  const int64_t middle = int64_t(cut * tiles.count);
  for (const auto& [begin, end] : {std::pair(int64_t(0), middle), std::pair(middle, tiles.count)})
    forward_range(outputs.results(), call.anchor, call.others, call.sizes, weights.data(), eps, tiles, begin, end);
  return outputs.take();
}

template <class T>
py::tuple backward(Array<T> grad, Array<T> norms, Array<T> cosines, bool need_anchor, bool need_others, Array<T> memory,
                   std::vector<int64_t> shape, bool channels_fastest, std::vector<double> signs, T eps, int64_t tile,
                   double cut) {
  const Call<T> call(memory, shape, channels_fastest, signs, eps);
  Gradients<T> grads(call.sizes, need_anchor, need_others);
  const Tiles tiles(call.sizes, tile);
  const auto weights = call.weights();
  const int64_t middle = int64_t(cut * tiles.count);
  for (const auto& [begin, end] : {std::pair(int64_t(0), middle), std::pair(middle, tiles.count)})
    backward_range(grads.to(grads.anchor, need_anchor, 1), grads.to(grads.others, need_others, call.sizes.others),
                   grad.data(), call.anchor, call.others, norms.data(), cosines.data(), call.sizes, weights.data(), eps,
                   tiles, begin, end);
  return grads.take();
}

constexpr int kThreads = 64;

template <class T>
py::tuple block_forward(Array<T> memory, std::vector<int64_t> shape, bool channels_fastest, std::vector<double> signs,
                        T eps, int64_t blocks, unsigned seed) {
  const Call<T> call(memory, shape, channels_fastest, signs, eps);
  Outputs<T> outputs(call.sizes);
  const Plan plan(call.sizes, sizeof(T), kThreads);
  launch_on_host(
      min64(plan.tiles, blocks), kThreads, ForwardBody<T>::shared_bytes(plan, kThreads), seed,
      ForwardBody<T>{outputs.results(), call.anchor, call.others, call.sizes, Signs<T>(call.signs), eps, plan});
  return outputs.take();
}

template <class T>
py::tuple block_backward(Array<T> grad, Array<T> norms, Array<T> cosines, bool need_anchor, bool need_others,
                         Array<T> memory, std::vector<int64_t> shape, bool channels_fastest, std::vector<double> signs,
                         T eps, int64_t slices, int64_t blocks, unsigned seed) {
  const Call<T> call(memory, shape, channels_fastest, signs, eps);
  Gradients<T> grads(call.sizes, need_anchor, need_others);
  const Plan plan(call.sizes, sizeof(T), kThreads);
  launch_on_host(
      min64(plan.tiles * slices, blocks), kThreads, BackwardBody<T>::shared_bytes(call.sizes, plan), seed,
      BackwardBody<T>{grads.to(grads.anchor, need_anchor, 1), grads.to(grads.others, need_others, call.sizes.others),
                      grad.data(), call.anchor, call.others, norms.data(), cosines.data(), call.sizes,
                      Signs<T>(call.signs), eps, plan, slices});
  return grads.take();
}

}  // namespace

template <class T>
void bind(py::module_& m, const std::string& type) {
  m.def(("paired_cosine_forward_" + type).c_str(), &forward<T>);
  m.def(("paired_cosine_backward_" + type).c_str(), &backward<T>);
  m.def(("paired_cosine_block_forward_" + type).c_str(), &block_forward<T>);
  m.def(("paired_cosine_block_backward_" + type).c_str(), &block_backward<T>);
}

}  // namespace dfops::cosine

void bind_paired_cosine(pybind11::module_& m) {
  dfops::cosine::bind<float>(m, "float32");
  dfops::cosine::bind<double>(m, "float64");
}
