#include <pybind11/stl.h>

#include "arrays.h"
#include "strip_merge/strip_merge_blocks.h"
#include "strip_merge/strip_merge_loops.h"

namespace dfops::merge {
namespace {

// The memory of clips as flat arrays; `shape` is that of the result.
Strips strips_for(const std::vector<int64_t>& shape, bool channels_last, int64_t axis) {
  return strips_of(shape[0], shape[1], shape[2], shape[3], shape[4], channels_last, axis);
}

template <class T>
Parts<const T> parts_of(const std::vector<Array<T>>& arrays, const std::vector<int64_t>& lengths) {
  Parts<const T> parts{{}, int(arrays.size())};
  for (size_t p = 0; p < arrays.size(); ++p) parts.part[p] = {arrays[p].data(), lengths[p]};
  return parts;
}

template <class T>
struct Gradients {
  std::vector<Output<T>> outputs;
  Parts<T> parts;

  Gradients(const Strips& strips, const std::vector<int64_t>& lengths) : parts{{}, int(lengths.size())} {
    for (size_t p = 0; p < lengths.size(); ++p) {
      outputs.emplace_back(std::vector<py::ssize_t>{py::ssize_t(strips.positions() * lengths[p])});
      parts.part[p] = {outputs.back().data(), lengths[p]};
    }
  }
  py::list take() {
    py::list list;
    for (auto& output : outputs) list.append(output.take("gradient"));
    return list;
  }
};

// The positions in two ranges, cut at a multiple of `slab`.
template <class T>
Array<T> forward(std::vector<Array<T>> arrays, std::vector<int64_t> lengths, std::vector<int64_t> shape,
                 bool channels_last, int64_t axis, int64_t slab) {
  const Strips strips = strips_for(shape, channels_last, axis);
  Output<T> out({py::ssize_t(strips.positions() * strips.length)});
  const auto source = sources(lengths, strips.length);
  const auto parts = parts_of(arrays, lengths);
  for (int64_t begin = 0; begin < strips.positions(); begin += slab)
    forward_range(out.data(), parts, strips, source.data(), begin, min64(strips.positions(), begin + slab));
  return out.take("out");
}

template <class T>
py::list backward(Array<T> grad, std::vector<int64_t> lengths, std::vector<int64_t> shape, bool channels_last,
                  int64_t axis, int64_t slab) {
  const Strips strips = strips_for(shape, channels_last, axis);
  Gradients<T> grads(strips, lengths);
  for (int64_t begin = 0; begin < strips.positions(); begin += slab)
    backward_range(grads.parts, grad.data(), strips, begin, min64(strips.positions(), begin + slab));
  return grads.take();
}

template <class T>
Array<T> block_forward(std::vector<Array<T>> arrays, std::vector<int64_t> lengths, std::vector<int64_t> shape,
                       bool channels_last, int64_t axis, int64_t elements, int64_t blocks, unsigned seed) {
  const Strips strips = strips_for(shape, channels_last, axis);
  Output<T> out({py::ssize_t(strips.positions() * strips.length)});
  const auto parts = parts_of(arrays, lengths);
  const Tiles tiles(strips, elements);
  constexpr int kPack = 16 / sizeof(T);
  if (strips.inner % kPack == 0)
    launch_on_host(blocks, 32, 0, seed, ForwardBody<T, kPack>{out.data(), parts, strips, tiles});
  else
    launch_on_host(blocks, 32, 0, seed, ForwardBody<T, 1>{out.data(), parts, strips, tiles});
  return out.take("out");
}

template <class T>
py::list block_backward(Array<T> grad, std::vector<int64_t> lengths, std::vector<int64_t> shape, bool channels_last,
                        int64_t axis, int64_t elements, int64_t blocks, unsigned seed) {
  const Strips strips = strips_for(shape, channels_last, axis);
  Gradients<T> grads(strips, lengths);
  const Tiles tiles(strips, elements);
  constexpr int kPack = 16 / sizeof(T);
  if (strips.inner % kPack == 0)
    launch_on_host(blocks, 32, 0, seed, BackwardBody<T, kPack>{grads.parts, grad.data(), strips, tiles});
  else
    launch_on_host(blocks, 32, 0, seed, BackwardBody<T, 1>{grads.parts, grad.data(), strips, tiles});
  return grads.take();
}

}  // namespace

template <class T>
void bind(py::module_& m, const std::string& type) {
  m.def(("strip_merge_forward_" + type).c_str(), &forward<T>);
  m.def(("strip_merge_backward_" + type).c_str(), &backward<T>);
  m.def(("strip_merge_block_forward_" + type).c_str(), &block_forward<T>);
  m.def(("strip_merge_block_backward_" + type).c_str(), &block_backward<T>);
}

}  // namespace dfops::merge

void bind_strip_merge(pybind11::module_& m) {
  dfops::merge::bind<float>(m, "float32");
  dfops::merge::bind<double>(m, "float64");
}
