#include <pybind11/stl.h>

#include "arrays.h"
#include "directional_difference/directional_difference_blocks.h"
#include "directional_difference/directional_difference_loops.h"

namespace dfops::directional {
namespace {

// How a test describes a call: the memory of a clip is a flat array.
struct Call {
  Strips strips;
  Planes planes;
  int64_t taps;

  template <class T>
  Call(const std::vector<int64_t>& shape, bool channels_last, int64_t axis, const Array<T>& weight)
      : strips(strips_of(shape[0], shape[1], shape[2], shape[3], shape[4], channels_last, axis)),
        planes(shape[0], shape[1], strips),
        taps(weight.shape(1)) {}
};

// The pieces in two ranges, cut at `cut` of them.
template <class T>
Array<T> forward(Array<T> x, Array<T> weight, std::vector<int64_t> shape, bool channels_last, int64_t axis,
                 int64_t elements, double cut) {
  const Call call(shape, channels_last, axis, weight);
  const Pieces pieces(call.planes, elements);
  Output<T> out({x.size()});
  const Weight<T> arranged(weight.data(), call.taps, call.strips, call.planes, false);
  const int64_t middle = int64_t(cut * pieces.count);
  forward_range(out.data(), x.data(), arranged, call.planes, pieces, 0, middle);
  forward_range(out.data(), x.data(), arranged, call.planes, pieces, middle, pieces.count);
  return out.take("out");
}

template <class T>
py::tuple backward(Array<T> grad, Array<T> x, Array<T> weight, std::vector<int64_t> shape, bool channels_last,
                   int64_t axis, int64_t elements, double cut) {
  const Call call(shape, channels_last, axis, weight);
  const Pieces pieces(call.planes, elements);
  Output<T> grad_x({x.size()}), grad_weight(shape_of(weight));
  const Weight<T> flipped(weight.data(), call.taps, call.strips, call.planes, true);
  std::fill_n(grad_weight.data(), weight.size(), T(0));
  const int64_t middle = int64_t(cut * pieces.count);
  backward_range(grad_x.data(), grad_weight.data(), grad.data(), x.data(), flipped, call.planes, pieces, 0, middle);
  backward_range(grad_x.data(), grad_weight.data(), grad.data(), x.data(), flipped, call.planes, pieces, middle,
                 pieces.count);
  return py::make_tuple(grad_x.take("grad_x"), grad_weight.take("grad_weight"));
}

constexpr int kThreads = 32;

template <int kPack, int kTaps, class T>
void run_forward(const Call& call, T* out, const T* x, const T* weight, int64_t slices, unsigned seed) {
  const Plan plan(call.planes, call.taps, kPack, kThreads);
  launch_on_host(plan.channel_groups * slices, kThreads, 0, seed, ForwardBody<T, kPack, kTaps>{out, x, weight, plan});
}

template <class T>
Array<T> block_forward(Array<T> x, Array<T> weight, std::vector<int64_t> shape, bool channels_last, int64_t axis,
                       int64_t slices, unsigned seed) {
  const Call call(shape, channels_last, axis, weight);
  Output<T> out({x.size()});
  constexpr int kPack = 16 / sizeof(T);
  const auto run = packs(call.planes, kPack) ? (call.taps == 3 ? run_forward<kPack, 3, T> : run_forward<kPack, 0, T>)
                                             : (call.taps == 3 ? run_forward<1, 3, T> : run_forward<1, 0, T>);
  run(call, out.data(), x.data(), weight.data(), slices, seed);
  return out.take("out");
}

template <int kPack, int kTaps, class T>
void run_backward(const Call& call, T* grad_x, T* grad_weight, const T* grad, const T* x, const T* weight,
                  int64_t slices, unsigned seed) {
  using Body = BackwardBody<T, kPack, kTaps>;
  const Plan plan(call.planes, call.taps, kPack, kThreads);
  const int64_t numel = plan.all_channels() * call.taps;
  Output<T> partial({slices, numel});
  launch_on_host(plan.channel_groups * slices, kThreads, Body::shared_bytes(kThreads), seed,
                 Body{grad_x, partial.data(), grad, x, weight, plan});
  launch_on_host(2, kThreads, 0, seed, TotalBody<T>{grad_weight, partial.data(), slices, numel});
  partial.take("partial");
}

template <class T>
py::tuple block_backward(Array<T> grad, Array<T> x, Array<T> weight, std::vector<int64_t> shape, bool channels_last,
                         int64_t axis, int64_t slices, unsigned seed) {
  const Call call(shape, channels_last, axis, weight);
  Output<T> grad_x({x.size()}), grad_weight(shape_of(weight));
  constexpr int kPack = 16 / sizeof(T);
  const auto run = packs(call.planes, kPack) ? (call.taps == 3 ? run_backward<kPack, 3, T> : run_backward<kPack, 0, T>)
                                             : (call.taps == 3 ? run_backward<1, 3, T> : run_backward<1, 0, T>);
  run(call, grad_x.data(), grad_weight.data(), grad.data(), x.data(), weight.data(), slices, seed);
  return py::make_tuple(grad_x.take("grad_x"), grad_weight.take("grad_weight"));
}

}  // namespace

template <class T>
void bind(py::module_& m, const std::string& type) {
  m.def(("directional_difference_forward_" + type).c_str(), &forward<T>);
  m.def(("directional_difference_backward_" + type).c_str(), &backward<T>);
  m.def(("directional_difference_block_forward_" + type).c_str(), &block_forward<T>);
  m.def(("directional_difference_block_backward_" + type).c_str(), &block_backward<T>);
}

}  // namespace dfops::directional

void bind_directional_difference(pybind11::module_& m) {
  dfops::directional::bind<float>(m, "float32");
  dfops::directional::bind<double>(m, "float64");
}
