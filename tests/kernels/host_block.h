// The host side of a kernel body: runs every block, every phase and every thread of it on the CPU, in a shuffled
// order, so that a missing barrier shows as a wrong result. Guard zones lie around shared and output arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace dfops {

namespace py = pybind11;

constexpr int64_t kGuardBytes = 64;
constexpr unsigned char kGuardByte = 0xA5;

// Bytes between two guard zones, filled with a pattern that is NaN in every floating-point type.
class GuardedBytes {
 public:
  explicit GuardedBytes(int64_t size) : size_(size), bytes_(size + 2 * kGuardBytes + 16, kGuardByte) {
    std::memset(begin(), 0xFF, size);
  }
  char* begin() {
    auto address = reinterpret_cast<uintptr_t>(bytes_.data()) + kGuardBytes;
    return reinterpret_cast<char*>((address + 15) / 16 * 16);
  }
  void check(const char* what) {
    const auto* first = reinterpret_cast<const unsigned char*>(begin());
    for (int64_t i = 1; i <= kGuardBytes; ++i)
      if (first[-i] != kGuardByte || first[size_ + i - 1] != kGuardByte)
        throw std::runtime_error(std::string(what) + ": written outside the array");
  }

 private:
  int64_t size_;
  std::vector<unsigned char> bytes_;
};

class HostBlock {
 public:
  HostBlock(int64_t index, int64_t count, int threads, int64_t shared_bytes, std::mt19937& random)
      : index_(index), count_(count), threads_(threads), left_(shared_bytes), random_(random) {}

  int64_t index() const { return index_; }
  int64_t count() const { return count_; }
  int threads() const { return threads_; }

  template <class Phase>
  void each(Phase phase) {
    std::vector<int> order(threads_);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    for (const int thread : order) phase(thread);
  }

  template <class T>
  struct Local {
    std::vector<T> values;
    T& operator[](int thread) { return values[thread]; }
  };
  template <class T>
  Local<T> local() const {
    return {std::vector<T>(threads_)};
  }

  template <class T>
  T* shared(int64_t n) {
    const int64_t bytes = (n * int64_t(sizeof(T)) + 15) / 16 * 16;
    left_ -= bytes;
    if (left_ < 0) throw std::runtime_error("more shared memory used than the launch asks for");
    arrays_.emplace_back(n * int64_t(sizeof(T)));
    return reinterpret_cast<T*>(arrays_.back().begin());
  }

  template <class T>
  T sum(Local<T>& value) const {
    return std::accumulate(value.values.begin(), value.values.end(), T(0));
  }

  template <class T>
  T max(Local<T>& value) const {
    return *std::max_element(value.values.begin(), value.values.end());
  }

  template <class T>
  T scan(Local<T>& value) const {
    T total = 0;
    for (T& own : value.values) own = std::exchange(total, T(total + own));
    return total;
  }

  void add(int* to, int value) const { *to += value; }

  void check() {
    for (auto& array : arrays_) array.check("shared memory");
  }

 private:
  int64_t index_, count_;
  int threads_;
  int64_t left_;
  std::mt19937& random_;
  std::vector<GuardedBytes> arrays_;
};

// What `launch` of csrc/common/launch.cuh does on a GPU.
template <class Body>
void launch_on_host(int64_t blocks, int threads, int64_t shared_bytes, unsigned seed, const Body& body) {
  std::mt19937 random(seed);
  std::vector<int64_t> order(blocks);
  std::iota(order.begin(), order.end(), int64_t(0));
  std::shuffle(order.begin(), order.end(), random);
  for (const int64_t index : order) {
    HostBlock block(index, blocks, threads, shared_bytes, random);
    body(block);
    block.check();
  }
}

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

}  // namespace dfops
