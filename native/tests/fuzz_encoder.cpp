// Any bytes as a batch and as a damaged model: refused or run, and never out of bounds.
//
// An entry point of libFuzzer; fuzz_driver.cpp calls it where there is none.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <tuple>

#include "isa.h"
#include "random_model.h"

using namespace octavo;

namespace {

// Takes numbers off the front of the bytes; zeros when there are none left.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  std::uint8_t byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }

  // Small numbers mostly, around the edges of what is valid, and now and then any number.
  std::int64_t number(std::int64_t near) {
    const std::uint8_t kind = byte();
    if (kind < 200) return near + static_cast<std::int8_t>(byte()) % 3;
    if (kind < 230) return byte();
    std::int64_t any = 0;
    for (int i = 0; i < 8; ++i) any = static_cast<std::int64_t>(static_cast<std::uint64_t>(any) << 8 | byte());
    return any;
  }

  bool left() const { return size_ > 0; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

Encoder& encoder_for(Reads reads, std::size_t isa, bool per_token) {
  static std::map<std::tuple<Reads, std::size_t, bool>, std::unique_ptr<Encoder>> encoders;
  auto& encoder = encoders[{reads, isa, per_token}];
  if (!encoder) {
    Sizes sizes;
    sizes.reads = reads;
    sizes.per_token = per_token;
    encoder = std::make_unique<Encoder>(RandomModel(7).model(sizes), *available_kernels()[isa], 1 + isa % 2);
  }
  return *encoder;
}

void run_batch(Bytes bytes) {
  const Reads reads = static_cast<Reads>(bytes.byte() % 3);
  const std::size_t isa = bytes.byte() % available_kernels().size();
  Encoder& encoder = encoder_for(reads, isa, bytes.byte() % 2 == 0);
  OwnedBatch batch;
  const std::size_t sequences = bytes.byte() % 6;
  std::int64_t end = 0;
  for (std::size_t i = 0; i < sequences; ++i) batch.offsets.push_back(end = bytes.number(end + 1 + bytes.byte() % 30));
  const std::size_t tokens = end >= 0 && end < 400 ? static_cast<std::size_t>(end) : 40;
  const bool wild = bytes.byte() % 4 == 0;  // else ids are valid, so that the kernels are reached
  for (std::size_t i = 0; i < tokens; ++i) batch.ids.push_back(wild ? bytes.number(18) : bytes.byte() % 20);
  if (bytes.byte() % 3 == 0)
    for (std::size_t i = 0; i < tokens; ++i) batch.segments.push_back(wild ? bytes.number(0) : bytes.byte() % 2);
  if (bytes.byte() % 3 == 0)
    for (std::size_t i = 0; i < sequences; ++i) batch.reads.push_back(bytes.number(batch.offsets[i] + 1));
  try {
    answer(encoder, batch);
  } catch (const std::invalid_argument&) {
  }
}

// Cuts, stretches or spoils one array of a model.
void build_model(Bytes bytes) {
  Sizes sizes;
  sizes.reads = static_cast<Reads>(bytes.byte() % 3);
  sizes.per_token = bytes.byte() % 2 == 0;
  ModelSource model = RandomModel(8).model(sizes);
  LayerSource& layer = model.layers[bytes.byte() % model.layers.size()];
  LinearSource* linears[] = {&layer.qkv.front(), &layer.attention_output, &layer.ffn1, &layer.ffn2};
  LinearSource& linear = *linears[bytes.byte() % 4];
  const auto size = [&](std::size_t now) { return static_cast<std::size_t>(std::llabs(bytes.number(static_cast<std::int64_t>(now)) % 4096)); };
  switch (bytes.byte() % 14) {
    case 0: linear.weight.resize(size(linear.weight.size())); break;
    case 1: linear.weight_scale.resize(size(linear.weight_scale.size())); break;
    case 2: linear.bias.resize(size(linear.bias.size())); break;
    case 3: linear.input_factor.resize(size(linear.inputs)); break;
    case 4: linear.inputs = size(linear.inputs); break;
    case 5: linear.outputs = size(linear.outputs); break;
    case 6: linear.weight[bytes.byte() % linear.weight.size()] = static_cast<std::int8_t>(bytes.byte()); break;
    case 7: model.hidden = size(model.hidden); break;
    case 8: model.heads = size(model.heads); break;
    case 9: model.words.resize(size(model.words.size())); break;
    case 10: model.position_offset = bytes.number(0); model.segment_stride = bytes.number(80); break;
    case 11: model.max_length = bytes.number(80); break;
    case 12: layer.qkv.resize(bytes.byte() % 4); break;
    case 13: layer.attention_norm.weight.resize(size(model.hidden)); break;
  }
  try {
    Encoder encoder(model, chosen_kernels(""), 1);
    const OwnedBatch batch({5, 1, 30}, RandomModel(9).random(), 20);
    answer(encoder, batch);
  } catch (const std::invalid_argument&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(data, size);
  if (bytes.byte() % 8 == 0) build_model(bytes);
  else run_batch(bytes);
  return 0;
}
