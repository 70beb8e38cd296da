// A few threads that stay, for pieces of work of some microseconds.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace octavo {

// The caller is one of the threads. One caller at a time.
class ThreadPool {
 public:
  explicit ThreadPool(std::size_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::size_t threads() const { return workers_.size() + 1; }

  static constexpr std::size_t kMostTasks = (std::size_t{1} << 20) - 1;

  // Calls work(task, thread) for every task below `tasks`, and returns when all are done. Work must not throw.
  template <class Work>
  void for_each(std::size_t tasks, Work&& work) {
    using Plain = std::remove_reference_t<Work>;
    if (tasks <= 1 || workers_.empty() || forked()) {
      for (std::size_t task = 0; task < tasks; ++task) work(task, std::size_t{0});
    } else {
      run(tasks, [](void* work, std::size_t task, std::size_t thread) { (*static_cast<Plain*>(work))(task, thread); },
          const_cast<void*>(static_cast<const void*>(&work)));
    }
  }

 private:
  using Call = void (*)(void*, std::size_t, std::size_t);

  void run(std::size_t tasks, Call call, void* work);
  bool take_task(std::size_t thread);
  void serve(std::size_t thread);
  bool forked() const;

  // Round, number of tasks and the next task in one word: who takes a task by compare-and-swap knows that call_ and
  // work_ were those of the round, and a worker that overslept a round takes nothing from it.
  std::atomic<std::uint64_t> state_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<void*> work_{nullptr};
  std::atomic<std::size_t> done_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
  pid_t process_;
};

}  // namespace octavo
