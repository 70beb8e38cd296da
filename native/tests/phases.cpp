// Where the time of a batch goes: the encoder with a table of kernels that look at the clock, on random weights.
//
//   phases [isa] [sequences] [tokens of each] [threads] [hidden] [layers] [rounds]
//
// Medians; needs no counters of the processor, which virtual machines seldom have. With several threads, phases add up
// what all of them spend.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "isa.h"
#include "random_model.h"

using namespace octavo;

namespace {

// This thread's own processor time: other work on the machine is not counted. Too slow a clock for phases.
std::int64_t thread_ns() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::int64_t{1'000'000'000} * now.tv_sec + now.tv_nsec;
}

std::int64_t wall_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

enum Phase { qkv, attention, quantize, attention_output, norm, ffn1, ffn2, head, kPhases };
constexpr const char* kNames[kPhases] = {"qkv", "attention", "quantize", "attention output",
                                         "norm", "ffn1", "ffn2", "head"};

const Kernels* under;  // the kernels that are watched
std::array<std::atomic<std::int64_t>, kPhases> spent_ns{};

template <class Work>
void timed(Phase phase, Work work) {
  const std::int64_t start = wall_ns();
  work();
  spent_ns[phase] += wall_ns() - start;
}

Phase of_sum(const Linear& layer) { return layer.inputs > layer.outputs ? ffn2 : attention_output; }

Kernels watched(const Kernels& kernels) {
  under = &kernels;
  Kernels table = kernels;
  table.linear = [](const Linear& layer, const LevelRows& in, const FloatRows& out, Range rows, Range panels) {
    timed(qkv, [&] { under->linear(layer, in, out, rows, panels); });
  };
  table.linear_add = [](const Linear& layer, const LevelRows& in, const FloatRows& out, Range rows, Range panels) {
    timed(of_sum(layer), [&] { under->linear_add(layer, in, out, rows, panels); });
  };
  table.linear_activate = [](const Linear& layer, Activation kind, const LevelRows& in, const FloatRows& out,
                             Range rows, Range panels) {
    timed(ffn1, [&] { under->linear_activate(layer, kind, in, out, rows, panels); });
  };
  table.linear_activate_quantize = [](const Linear& layer, Activation kind, const LevelRows& in, const Quantizer& next,
                                      const FloatRows& floats, const LevelRows& out, Range rows, Range panels) {
    timed(ffn1, [&] { under->linear_activate_quantize(layer, kind, in, next, floats, out, rows, panels); });
  };
  table.layer_norm = [](const LayerNorm& layer, const FloatRows& x, const Quantizer* next, const LevelRows& out,
                        Range rows) { timed(norm, [&] { under->layer_norm(layer, x, next, out, rows); }); };
  table.quantize = [](const FloatRows& x, const Quantizer& next, const LevelRows& out, Range rows) {
    timed(quantize, [&] { under->quantize(x, next, out, rows); });
  };
  table.attend = [](const HeadOfSequence& one) { timed(attention, [&] { under->attend(one); }); };
  table.dense = [](const Dense& layer, const FloatRows& in, const FloatRows& out, std::size_t rows) {
    timed(head, [&] { under->dense(layer, in, out, rows); });
  };
  return table;
}

double ms_of(Encoder& encoder, const OwnedBatch& batch) {
  const auto clock = encoder.threads() == 1 ? thread_ns : wall_ns;
  const std::int64_t start = clock();
  answer(encoder, batch);
  return static_cast<double>(clock() - start) / 1e6;
}

// Milliseconds that a billion of integer products take at the least, of the instruction set that shares are told in.
double ms_of_peak(const Kernels& kernels) {
  const std::int64_t start = wall_ns();
  const std::uint64_t products = kernels.spin(2000);
  return static_cast<double>(wall_ns() - start) / 1e6 / static_cast<double>(products) * 1e9;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// One scheme of scales: an encoder as it is, one that is watched, and what they took.
struct Contender {
  Contender(const ModelSource& model, const Kernels& kernels, const Kernels& table, std::size_t threads)
      : plain(model, kernels, threads), under_watch(model, table, threads) {}
  Encoder plain, under_watch;
  std::vector<double> plain_ms, watched_ms, share;
  std::array<std::vector<double>, kPhases> phase_ms;
};

}  // namespace

int main(int count, char** arguments) {
  const auto number = [&](int place, std::size_t otherwise) {
    return count > place ? static_cast<std::size_t>(std::atoll(arguments[place])) : otherwise;
  };
  const Kernels& kernels = chosen_kernels(count > 1 ? arguments[1] : "");
  const Kernels& loop = std::string(kernels.name) == "amx" ? chosen_kernels("avx512_vnni") : kernels;
  const std::vector<std::size_t> lengths(number(2, 32), number(3, 11));
  const std::size_t threads = number(4, 1), hidden = number(5, 384), layers = number(6, 6);
  const std::size_t tokens = lengths.size() * lengths[0];
  const std::size_t rounds = std::clamp<std::size_t>(number(7, 60) * 384 / hidden * 400 / tokens, 5, 2000);
  const Kernels table = watched(kernels);
  std::vector<std::unique_ptr<Contender>> contenders;
  Sizes sizes{12, hidden / 12, 4 * hidden, layers, 1000, 1024, Reads::mean, false};
  for (bool per_token : {false, true}) {
    sizes.per_token = per_token;
    contenders.push_back(std::make_unique<Contender>(RandomModel(1).model(sizes), kernels, table, threads));
  }
  const OwnedBatch batch(lengths, RandomModel(1).random(), sizes.vocabulary);
  const double products = static_cast<double>(12 * hidden * hidden * layers * tokens) / 1e9;
  std::vector<double> ratios;
  for (std::size_t round = 0; round < rounds + 3; ++round) {
    for (auto& one : contenders) {
      const double peak_ms = ms_of_peak(loop) * products / static_cast<double>(threads);
      const double plain_ms = ms_of(one->plain, batch);
      for (auto& ns : spent_ns) ns = 0;
      const double watched_ms = ms_of(one->under_watch, batch);
      if (round < 3) continue;
      one->plain_ms.push_back(plain_ms);
      one->watched_ms.push_back(watched_ms);
      one->share.push_back(peak_ms / plain_ms);
      for (std::size_t phase = 0; phase < kPhases; ++phase)
        one->phase_ms[phase].push_back(static_cast<double>(spent_ns[phase]) / 1e6);
    }
    if (round >= 3) ratios.push_back(contenders[1]->plain_ms.back() / contenders[0]->plain_ms.back());
  }
  std::printf("%s, %zu x %zu tokens, %zu threads        per tensor  per token (%.3f times)\n", kernels.name,
              lengths.size(), lengths[0], threads, median(ratios));
  const auto line = [](const char* name, double left, double right) {
    std::printf("  %-32s %12.3f %10.3f\n", name, left, right);
  };
  const auto& [left, right] = std::tie(*contenders[0], *contenders[1]);
  line("ms", median(left.plain_ms), median(right.plain_ms));
  line("share of the peak", median(left.share), median(right.share));
  for (std::size_t phase = 0; phase < kPhases; ++phase) line(kNames[phase], median(left.phase_ms[phase]), median(right.phase_ms[phase]));
  const auto rest = [&](const Contender& one) {
    double sum = 0;
    for (const auto& ms : one.phase_ms) sum += median(ms);
    return median(one.watched_ms) * static_cast<double>(threads) - sum;
  };
  line("between them", rest(left), rest(right));
}
