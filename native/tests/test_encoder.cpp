// The way of a batch: instruction sets agree, threads change nothing, workspaces are clean, what is out of range refused.
#include <cmath>
#include <limits>
#include <stdexcept>
#include <thread>

#include "check.h"
#include "isa.h"
#include "random_model.h"

using namespace octavo;

namespace {

const std::vector<std::vector<std::size_t>> kBatches = {{1}, {11}, {3, 1, 17, 40, 2, 9}, {70, 1}, std::vector<std::size_t>(70, 4)};

void test_instruction_sets_agree(const Sizes& sizes) {
  RandomModel random(3);
  const ModelSource model = random.model(sizes);
  Encoder portable(model, *available_kernels().back(), 1);
  for (const Kernels* kernels : available_kernels()) {
    Encoder encoder(model, *kernels, 1);
    std::size_t far = 0, count = 0;
    for (const auto& lengths : kBatches) {
      const OwnedBatch batch(lengths, random.random(), sizes.vocabulary);
      const auto got = answer(encoder, batch), expected = answer(portable, batch);
      CHECK(got.size() == expected.size());
      for (std::size_t i = 0; i < got.size(); ++i, ++count) {
        CHECK(std::fabs(got[i] - expected[i]) < 0.2f, "%s: %g, not %g", kernels->name, static_cast<double>(got[i]),
              static_cast<double>(expected[i]));
        far += std::fabs(got[i] - expected[i]) > 1e-4f;  // a rounding has flipped
      }
    }
    CHECK(far * 10 < count, "%s: %zu of %zu", kernels->name, far, count);
  }
}

// Also: a workspace that served a larger batch gives the same bits.
void test_threads_and_workspaces_change_no_bit(const Sizes& sizes) {
  RandomModel random(4);
  const ModelSource model = random.model(sizes);
  for (const Kernels* kernels : available_kernels()) {
    Encoder one(model, *kernels, 1), three(model, *kernels, 3);
    std::vector<OwnedBatch> batches;
    for (const auto& lengths : kBatches) batches.emplace_back(lengths, random.random(), 20);
    std::vector<std::vector<float>> first;
    for (const OwnedBatch& batch : batches) first.push_back(answer(one, batch));
    for (std::size_t i = batches.size(); i-- > 0;) {
      CHECK(answer(one, batches[i]) == first[i], "%s", kernels->name);
      CHECK(answer(three, batches[i]) == first[i], "%s", kernels->name);
    }
  }
}

void test_callers_from_many_threads(std::size_t threads) {
  RandomModel random(5);
  Encoder encoder(random.model({}), chosen_kernels(""), threads);
  std::vector<OwnedBatch> batches;
  std::vector<std::vector<float>> expected;
  for (const auto& lengths : kBatches) batches.emplace_back(lengths, random.random(), 20);
  for (const OwnedBatch& batch : batches) expected.push_back(answer(encoder, batch));
  std::vector<std::thread> callers;
  for (std::size_t caller = 0; caller < 8; ++caller)
    callers.emplace_back([&, caller] {
      for (std::size_t round = 0; round < 20; ++round) {
        const std::size_t i = (caller + round) % batches.size();
        CHECK(answer(encoder, batches[i]) == expected[i]);
      }
    });
  for (std::thread& caller : callers) caller.join();
}

template <class Change>
void expect_refused(Encoder& encoder, Change change) {
  OwnedBatch batch;
  batch.ids = {1, 2, 3, 4, 5};
  batch.offsets = {0, 2, 5};
  answer(encoder, batch);
  change(batch);
  try {
    encoder.check(batch.batch());
  } catch (const std::invalid_argument&) {
    return;
  }
  CHECK(false, "a batch that is out of range was taken");
}

void test_values_out_of_range() {
  RandomModel random(6);
  Sizes sizes;
  Encoder encoder(random.model(sizes), chosen_kernels(""), 1);
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max(), kSmallest = ~kLargest;
  for (std::int64_t id : {std::int64_t{20}, std::int64_t{-1}, kLargest, kSmallest})
    expect_refused(encoder, [&](OwnedBatch& batch) { batch.ids[4] = id; });
  for (std::int64_t offset : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{5}, std::int64_t{6}, kLargest, kSmallest})
    expect_refused(encoder, [&](OwnedBatch& batch) { batch.offsets[1] = offset; });
  for (std::int64_t offset : {std::int64_t{2}, std::int64_t{4}, std::int64_t{6}, kLargest, kSmallest})
    expect_refused(encoder, [&](OwnedBatch& batch) { batch.offsets[2] = offset; });
  for (std::int64_t offset : {std::int64_t{1}, std::int64_t{-1}, kLargest, kSmallest})
    expect_refused(encoder, [&](OwnedBatch& batch) { batch.offsets[0] = offset; });
  for (std::int64_t segment : {std::int64_t{2}, std::int64_t{-1}, kLargest, kSmallest})
    expect_refused(encoder, [&](OwnedBatch& batch) { batch.segments = {0, 0, 0, 0, segment}; });
  for (std::int64_t read : {std::int64_t{1}, std::int64_t{5}, std::int64_t{-1}, kLargest, kSmallest})
    expect_refused(encoder, [&](OwnedBatch& batch) { batch.reads = {0, read}; });
  expect_refused(encoder, [&](OwnedBatch& batch) {  // longer than the longest sequence
    batch.ids.assign(sizes.positions / 2 + 1, 1);
    batch.offsets = {0, static_cast<std::int64_t>(batch.ids.size())};
  });
}

}  // namespace

int main() {
  test_instruction_sets_agree({});
  test_instruction_sets_agree({3, 6, 50, 3, 20, 160, Reads::words, false});
  test_instruction_sets_agree({1, 32, 90, 2, 20, 160, Reads::mean, true});
  Sizes per_token;
  per_token.per_token = true;
  test_instruction_sets_agree(per_token);
  test_threads_and_workspaces_change_no_bit({});
  test_threads_and_workspaces_change_no_bit(per_token);
  test_callers_from_many_threads(1);
  test_callers_from_many_threads(3);
  test_values_out_of_range();
  std::printf("encoder: fine\n");
}
