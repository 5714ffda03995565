#include "arrays.h"
#include "inconsistency_gate/inconsistency_gate_blocks.h"
#include "inconsistency_gate/inconsistency_gate_loops.h"

namespace dfops::gate {
namespace {

template <class T>
Array<T> forward(Array<T> x, Array<T> vertical, Array<T> horizontal, T gamma) {
  Output<T> out(shape_of(x));
  forward_range(out.data(), x.data(), vertical.data(), horizontal.data(), gamma, 0, x.size());
  return out.take("out");
}

template <class T>
py::tuple backward(Array<T> grad, Array<T> x, Array<T> vertical, Array<T> horizontal, T gamma) {
  Output<T> gx(shape_of(x)), gv(shape_of(x)), gh(shape_of(x));
  const T share = backward_range(gx.data(), gv.data(), gh.data(), grad.data(), x.data(), vertical.data(),
                                 horizontal.data(), gamma, 0, x.size());
  return py::make_tuple(gx.take("grad_x"), gv.take("grad_vertical"), gh.take("grad_horizontal"), share);
}

template <class T, int kPack>
Array<T> block_forward(Array<T> x, Array<T> vertical, Array<T> horizontal, T gamma, T scale, int64_t blocks,
                       unsigned seed) {
  Output<T> out(shape_of(x));
  launch_on_host(
      blocks, 32, 0, seed,
      ForwardBody<T, kPack>{out.data(), x.data(), vertical.data(), horizontal.data(), &gamma, scale, x.size()});
  return out.take("out");
}

template <class T, int kPack>
py::tuple block_backward(Array<T> grad, Array<T> x, Array<T> vertical, Array<T> horizontal, T gamma, T scale,
                         int64_t blocks, unsigned seed) {
  Output<T> gx(shape_of(x)), gv(shape_of(x)), gh(shape_of(x)), partial({blocks}), total({1});
  launch_on_host(blocks, 64, 0, seed,
                 BackwardBody<T, kPack>{gx.data(), gv.data(), gh.data(), partial.data(), grad.data(), x.data(),
                                        vertical.data(), horizontal.data(), &gamma, scale, x.size()});
  launch_on_host(1, 64, 0, seed, TotalBody<T>{total.data(), partial.data(), scale, blocks});
  return py::make_tuple(gx.take("grad_x"), gv.take("grad_vertical"), gh.take("grad_horizontal"), total.take("total"));
}

}  // namespace

template <class T>
void bind(py::module_& m, const std::string& type) {
  m.def(("gate_forward_" + type).c_str(), &forward<T>);
  m.def(("gate_backward_" + type).c_str(), &backward<T>);
  m.def(("gate_block_forward_" + type).c_str(), &block_forward<T, 16 / sizeof(T)>);
  m.def(("gate_block_forward_unaligned_" + type).c_str(), &block_forward<T, 1>);
  m.def(("gate_block_backward_" + type).c_str(), &block_backward<T, 16 / sizeof(T)>);
}

}  // namespace dfops::gate

void bind_inconsistency_gate(pybind11::module_& m) {
  dfops::gate::bind<float>(m, "float32");
  dfops::gate::bind<double>(m, "float64");
}
