// The host side of a kernel body: runs every block, every phase and every thread of it on the CPU, in a shuffled
// order, so that a missing barrier shows as a wrong result. Guard zones lie around shared arrays. Compiled with
// ThreadSanitizer, every thread of a block is a fiber of its own, and what no barrier orders is reported.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#include <ucontext.h>

#include <memory>
#endif

namespace dfops {

constexpr int64_t kGuardBytes = 64;
constexpr unsigned char kGuardByte = 0xFE;  // read as a number it is huge, or NaN

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

// The threads of a block between two barriers, one after the other in the order given.
class Threads {
 public:
#ifdef __SANITIZE_THREAD__
  explicit Threads(int count) : fibers_(pool(count)) {}

  template <class Phase>
  void run(const std::vector<int>& order, const Phase& phase) {
    Job job{[](const void* body, int thread) { (*static_cast<const Phase*>(body))(thread); }, &phase, 0,
            __tsan_get_current_fiber()};
    for (const int thread : order) {
      job.thread = thread;
      current_ = &job;
      Fiber& fiber = *fibers_[thread];
      makecontext(&fiber.context, &Threads::enter, 0);
      __tsan_release(&begin_);
      __tsan_switch_to_fiber(fiber.handle, __tsan_switch_to_fiber_no_sync);
      swapcontext(&job.context, &fiber.context);
    }
    __tsan_acquire(&end_);
  }

 private:
  // With a stack of its own, or what one thread leaves on the stack would seem to race with the next one's.
  struct Fiber {
    static constexpr size_t kStack = size_t(64) << 10;
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(kStack);
    void* handle = __tsan_create_fiber(0);

    Fiber() {
      getcontext(&context);
      context.uc_stack.ss_sp = stack.data();
      context.uc_stack.ss_size = kStack;
    }
  };
  struct Job {
    void (*call)(const void*, int);
    const void* phase;
    int thread;
    void* block;
    ucontext_t context{};
  };

  __attribute__((no_sanitize("thread"), noinline)) static void enter() {
    Job* const job = current_;
    __tsan_acquire(&begin_);
    job->call(job->phase, job->thread);
    __tsan_release(&end_);
    __tsan_switch_to_fiber(job->block, __tsan_switch_to_fiber_no_sync);
    setcontext(&job->context);
  }

  // Fibers are dear, and the blocks of a launch run one after the other.
  static std::vector<std::unique_ptr<Fiber>>& pool(int count) {
    static std::vector<std::unique_ptr<Fiber>> fibers;
    while (int(fibers.size()) < count) fibers.push_back(std::make_unique<Fiber>());
    return fibers;
  }

  std::vector<std::unique_ptr<Fiber>>& fibers_;
  static inline Job* current_ = nullptr;
  static inline char begin_ = 0, end_ = 0;
#else
  explicit Threads(int) {}

  template <class Phase>
  void run(const std::vector<int>& order, const Phase& phase) {
    for (const int thread : order) phase(thread);
  }
#endif
};

// What DeviceBlock of csrc/common/launch.cuh is on a GPU.
class HostBlock {
 public:
  HostBlock(int64_t index, int64_t count, int threads, int64_t shared_bytes, std::mt19937& random)
      : index_(index), count_(count), left_(shared_bytes), random_(random), order_(threads), threads_(threads) {
    std::iota(order_.begin(), order_.end(), 0);
  }

  int64_t index() const { return index_; }
  int64_t count() const { return count_; }
  int threads() const { return int(order_.size()); }

  template <class Phase>
  void each(Phase phase) {
    std::shuffle(order_.begin(), order_.end(), random_);
    threads_.run(order_, phase);
  }

  template <class T>
  struct Local {
    std::vector<T> values;
    T& operator[](int thread) { return values[thread]; }
  };
  template <class T>
  Local<T> local() const {
    return {std::vector<T>(order_.size())};
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

  void add(int* to, int value) const { __atomic_fetch_add(to, value, __ATOMIC_RELAXED); }

  void check() {
    for (auto& array : arrays_) array.check("shared memory");
  }

 private:
  int64_t index_, count_, left_;
  std::mt19937& random_;
  std::vector<int> order_;
  Threads threads_;
  std::vector<GuardedBytes> arrays_;
};

// What `launch` of csrc/common/launch.cuh does on a GPU.
template <class Body>
void launch_on_host(int64_t blocks, int threads, int64_t shared_bytes, std::mt19937& random, const Body& body) {
  std::vector<int64_t> order(blocks);
  std::iota(order.begin(), order.end(), int64_t(0));
  std::shuffle(order.begin(), order.end(), random);
  for (const int64_t index : order) {
    HostBlock block(index, blocks, threads, shared_bytes, random);
    body(block);
    block.check();
  }
}

}  // namespace dfops
