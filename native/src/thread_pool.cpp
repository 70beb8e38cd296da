#include "thread_pool.h"

#include <pthread.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace octavo {

namespace {

constexpr unsigned kBits = 20;
constexpr std::uint64_t kMask = (std::uint64_t{1} << kBits) - 1;
// How often a worker looks for new work before it sleeps: some ten microseconds, longer than the gaps within a call.
constexpr int kSpins = 1000;

std::size_t next_of(std::uint64_t state) { return state & kMask; }
std::size_t tasks_of(std::uint64_t state) { return state >> kBits & kMask; }
bool has_tasks(std::uint64_t state) { return next_of(state) < tasks_of(state); }
std::uint64_t state_after(std::uint64_t state, std::size_t tasks) {
  return ((state >> 2 * kBits) + 1) << 2 * kBits | static_cast<std::uint64_t>(tasks) << kBits;
}

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

}  // namespace

ThreadPool::ThreadPool(std::size_t threads) : process_(getpid()) {
  for (std::size_t thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { serve(thread); });
}

ThreadPool::~ThreadPool() {
  if (forked()) {  // the threads stayed in the parent; there is nothing to join
    for (std::thread& worker : workers_) worker.detach();
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

// A child process has the pool, but none of its threads.
bool ThreadPool::forked() const { return getpid() != process_; }

void ThreadPool::run(std::size_t tasks, Call call, void* work) {
  call_.store(call, std::memory_order_relaxed);
  work_.store(work, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  state_.store(state_after(state_.load(std::memory_order_relaxed), tasks));
  if (sleeping_.load() > 0) {
    { const std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }
  while (take_task(0)) {
  }
  for (int spins = 0; done_.load(std::memory_order_acquire) < tasks; ++spins) {
    if (spins < kSpins) pause();
    else std::this_thread::yield();  // a worker was put aside by the system: let it come back
  }
}

bool ThreadPool::take_task(std::size_t thread) {
  std::uint64_t state = state_.load(std::memory_order_acquire);
  while (has_tasks(state)) {
    const Call call = call_.load(std::memory_order_relaxed);
    void* work = work_.load(std::memory_order_relaxed);
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      call(work, next_of(state), thread);
      done_.fetch_add(1, std::memory_order_release);
      return true;
    }
  }
  return false;
}

void ThreadPool::serve(std::size_t thread) {
  int idle = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (take_task(thread)) {
      idle = 0;
    } else if (++idle < kSpins) {
      pause();
    } else {
      std::unique_lock lock(mutex_);
      sleeping_.fetch_add(1);
      wake_.wait(lock, [this] { return stopping_.load() || has_tasks(state_.load()); });
      sleeping_.fetch_sub(1);
      idle = 0;
    }
  }
}

}  // namespace octavo
