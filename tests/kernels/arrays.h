// What the bindings of kernel headers share: NumPy arrays, and memory that a kernel writes.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "host_block.h"

namespace dfops {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// Memory a kernel writes: guarded, then handed to NumPy.
template <class T>
class Output {
 public:
  explicit Output(std::vector<py::ssize_t> shape)
      : shape_(std::move(shape)),
        numel_(std::accumulate(shape_.begin(), shape_.end(), py::ssize_t(1), std::multiplies<>())),
        bytes_(numel_ * int64_t(sizeof(T))) {}
  T* data() { return reinterpret_cast<T*>(bytes_.begin()); }
  Array<T> take(const char* name) {
    bytes_.check(name);
    Array<T> result(shape_);
    if (numel_ > 0) std::memcpy(result.mutable_data(), data(), numel_ * sizeof(T));
    return result;
  }

 private:
  std::vector<py::ssize_t> shape_;
  py::ssize_t numel_;
  GuardedBytes bytes_;
};

template <class T>
std::vector<py::ssize_t> shape_of(const Array<T>& array) {
  return std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim());
}

// Blocks and threads in the order that a seed gives.
template <class Body>
void launch_on_host(int64_t blocks, int threads, int64_t shared_bytes, unsigned seed, const Body& body) {
  std::mt19937 random(seed);
  launch_on_host(blocks, threads, shared_bytes, random, body);
}

}  // namespace dfops
