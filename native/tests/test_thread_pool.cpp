// Every task once, whatever the number of threads and however long they slept.
#include <atomic>
#include <chrono>
#include <vector>

#include "check.h"
#include "thread_pool.h"

using namespace octavo;

int main() {
  for (std::size_t threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (std::size_t round = 0; round < 2000; ++round) {
      const std::size_t tasks = round % 37;
      std::vector<std::atomic<int>> seen(tasks);
      pool.for_each(tasks, [&](std::size_t task, std::size_t thread) {
        CHECK(thread < threads);
        ++seen[task];
      });
      for (const auto& times : seen) CHECK(times == 1, "%zu threads, round %zu", threads, round);
      if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));  // the workers fall asleep
    }
  }
  std::printf("thread pool: fine\n");
}
