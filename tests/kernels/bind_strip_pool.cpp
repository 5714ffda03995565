#include <pybind11/stl.h>

#include "arrays.h"
#include "strip_pool/strip_pool_blocks.h"
#include "strip_pool/strip_pool_loops.h"

namespace dfops::strip {
namespace {

// How a test describes a call: the memory of a clip is a flat array; a weight of no elements stands for none.
struct Call {
  Strips strips;
  std::vector<int64_t> scales;
  Filters filters;
  int64_t channels;

  Call(const std::vector<int64_t>& shape, bool channels_last, int64_t axis, std::vector<int64_t> scale_list,
       const std::vector<py::ssize_t>& weight)
      : strips(strips_of(shape[0], shape[1], shape[2], shape[3], shape[4], channels_last, axis)),
        scales(std::move(scale_list)),
        channels(shape[2]) {
    const bool weighted = weight.size() == 4;
    filters = {weighted ? int64_t(weight[0]) : 1, int64_t(scales.size()), weighted ? int64_t(weight[3]) : 0,
               scales.data(), weighted};
  }

  Plan plan(int64_t positions) const {
    return make_plan(strips, filters.directions, filters.scales, filters.taps, filters.scale, filters.weighted,
                     positions);
  }
  template <class T>
  std::vector<Output<T>> outputs() const {
    std::vector<Output<T>> out;
    for (int64_t ds = 0; ds < filters.outputs(); ++ds)
      out.emplace_back(
          std::vector<py::ssize_t>{py::ssize_t(strips.positions() * (strips.length / scales[ds % filters.scales]))});
    return out;
  }
};

template <class T>
py::list take_all(std::vector<Output<T>>& outputs) {
  py::list list;
  for (auto& output : outputs) list.append(output.take("output"));
  return list;
}

// The slabs in two ranges, cut at `cut` of them.
template <class T>
py::list forward(Array<T> x, std::vector<int64_t> shape, bool channels_last, int64_t axis, std::vector<int64_t> scales,
                 Array<T> weight, double cut) {
  const Call call(shape, channels_last, axis, scales, shape_of(weight));
  auto out = call.outputs<T>();
  const Slabs slabs(call.strips);
  std::vector<T> arranged;
  if (call.filters.weighted) arranged = arrange_weight(weight.data(), call.filters, call.channels, slabs, false);
  std::vector<T*> pointers;
  for (auto& output : out) pointers.push_back(output.data());
  const int64_t count = call.strips.outer * slabs.per_outer, middle = int64_t(cut * count);
  forward_range(pointers.data(), x.data(), arranged.data(), call.filters, call.strips, slabs, 0, middle);
  forward_range(pointers.data(), x.data(), arranged.data(), call.filters, call.strips, slabs, middle, count);
  return take_all(out);
}

template <class T>
py::tuple backward(std::vector<Array<T>> grads, Array<T> x, std::vector<int64_t> shape, bool channels_last,
                   int64_t axis, std::vector<int64_t> scales, Array<T> weight, double cut) {
  const Call call(shape, channels_last, axis, scales, shape_of(weight));
  const Slabs slabs(call.strips);
  Output<T> grad_x({x.size()}), grad_weight(shape_of(weight));
  std::vector<T> flipped;
  if (call.filters.weighted) flipped = arrange_weight(weight.data(), call.filters, call.channels, slabs, true);
  std::vector<T> partial(2 * flipped.size());
  std::vector<const T*> pointers;
  for (auto& grad : grads) pointers.push_back(grad.data());
  const int64_t count = call.strips.outer * slabs.per_outer, middle = int64_t(cut * count);
  const bool weighted = call.filters.weighted;
  backward_range(grad_x.data(), weighted ? partial.data() : nullptr, pointers.data(), x.data(), flipped.data(),
                 call.filters, call.strips, slabs, 0, middle);
  backward_range(grad_x.data(), weighted ? partial.data() + flipped.size() : nullptr, pointers.data(), x.data(),
                 flipped.data(), call.filters, call.strips, slabs, middle, count);
  if (weighted) add_shares(grad_weight.data(), partial.data(), 2, call.filters, call.channels, slabs);
  return py::make_tuple(grad_x.take("grad_x"), grad_weight.take("grad_weight"));
}

template <class T, int kPack>
void run_forward(const Call& call, std::vector<Output<T>>& out, const T* x, const T* weight, int64_t positions,
                 int64_t slices, unsigned seed) {
  const Plan plan = call.plan(positions);
  ForwardBody<T, kPack> body{{}, x, weight, plan};
  for (size_t i = 0; i < out.size(); ++i) body.out[i] = out[i].data();
  launch_on_host(plan.channel_groups * min64(plan.tiles, slices), 32, forward_shared_bytes(plan, sizeof(T)), seed,
                 body);
}

template <class T>
py::list block_forward(Array<T> x, std::vector<int64_t> shape, bool channels_last, int64_t axis,
                       std::vector<int64_t> scales, Array<T> weight, int64_t positions, int64_t slices, unsigned seed) {
  const Call call(shape, channels_last, axis, scales, shape_of(weight));
  auto out = call.outputs<T>();
  if (call.plan(positions).packs(16 / sizeof(T)))
    run_forward<T, 16 / sizeof(T)>(call, out, x.data(), weight.data(), positions, slices, seed);
  else
    run_forward<T, 1>(call, out, x.data(), weight.data(), positions, slices, seed);
  return take_all(out);
}

template <class T, int kPack>
void run_backward(const Call& call, T* grad_x, T* grad_weight, const std::vector<Array<T>>& grads, const T* x,
                  const T* weight, int64_t positions, int64_t wanted_slices, unsigned seed) {
  const Plan plan = call.plan(positions);
  const int64_t slices = min64(plan.tiles, wanted_slices), numel = call.filters.outputs() * call.channels * plan.taps;
  Output<T> partial({slices, numel});
  BackwardBody<T, kPack> body{{}, grad_x, plan.weighted ? partial.data() : nullptr, x, weight, plan};
  for (size_t i = 0; i < grads.size(); ++i) body.grad[i] = grads[i].data();
  launch_on_host(plan.channel_groups * slices, 32, backward_shared_bytes(plan, sizeof(T)), seed, body);
  if (plan.weighted) launch_on_host(2, 32, 0, seed, TotalBody<T>{grad_weight, partial.data(), slices, numel});
  partial.take("partial");
}

template <class T>
py::tuple block_backward(std::vector<Array<T>> grads, Array<T> x, std::vector<int64_t> shape, bool channels_last,
                         int64_t axis, std::vector<int64_t> scales, Array<T> weight, int64_t positions, int64_t slices,
                         unsigned seed) {
  const Call call(shape, channels_last, axis, scales, shape_of(weight));
  Output<T> grad_x({x.size()}), grad_weight(shape_of(weight));
  if (call.plan(positions).packs(16 / sizeof(T)))
    run_backward<T, 16 / sizeof(T)>(call, grad_x.data(), grad_weight.data(), grads, x.data(), weight.data(), positions,
                                    slices, seed);
  else
    run_backward<T, 1>(call, grad_x.data(), grad_weight.data(), grads, x.data(), weight.data(), positions, slices,
                       seed);
  return py::make_tuple(grad_x.take("grad_x"), grad_weight.take("grad_weight"));
}

template <class T>
py::list direct_forward(Array<T> x, std::vector<int64_t> shape, bool channels_last, int64_t axis,
                        std::vector<int64_t> scales, Array<T> weight, unsigned seed) {
  const Call call(shape, channels_last, axis, scales, shape_of(weight));
  auto out = call.outputs<T>();
  DirectForwardBody<T> body{{}, x.data(), weight.data(), call.plan(8)};
  for (size_t i = 0; i < out.size(); ++i) body.out[i] = out[i].data();
  launch_on_host(3, 32, 0, seed, body);
  return take_all(out);
}

template <class T>
py::tuple direct_backward(std::vector<Array<T>> grads, Array<T> x, std::vector<int64_t> shape, bool channels_last,
                          int64_t axis, std::vector<int64_t> scales, Array<T> weight, unsigned seed) {
  const Call call(shape, channels_last, axis, scales, shape_of(weight));
  Output<T> grad_x({x.size()}), grad_weight(shape_of(weight));
  DirectGradXBody<T> body{{}, grad_x.data(), weight.data(), call.plan(8)};
  DirectGradWeightBody<T> weight_body{{}, grad_weight.data(), x.data(), call.plan(8)};
  for (size_t i = 0; i < grads.size(); ++i) body.grad[i] = weight_body.grad[i] = grads[i].data();
  launch_on_host(3, 32, 0, seed, body);
  if (call.filters.weighted) launch_on_host(3, 32, 0, seed, weight_body);
  return py::make_tuple(grad_x.take("grad_x"), grad_weight.take("grad_weight"));
}

}  // namespace

template <class T>
void bind(py::module_& m, const std::string& type) {
  m.def(("strip_pool_forward_" + type).c_str(), &forward<T>);
  m.def(("strip_pool_backward_" + type).c_str(), &backward<T>);
  m.def(("strip_pool_block_forward_" + type).c_str(), &block_forward<T>);
  m.def(("strip_pool_block_backward_" + type).c_str(), &block_backward<T>);
  m.def(("strip_pool_direct_forward_" + type).c_str(), &direct_forward<T>);
  m.def(("strip_pool_direct_backward_" + type).c_str(), &direct_backward<T>);
}

}  // namespace dfops::strip

void bind_strip_pool(pybind11::module_& m) {
  dfops::strip::bind<float>(m, "float32");
  dfops::strip::bind<double>(m, "float64");
}
