// Runs a TorchScript archive without Python: libtorch, one input tensor from a file, one output tensor to a file.
//
//   detect MODEL INPUT OUTPUT BATCH CHANNELS HEIGHT WIDTH
//
// Both files are raw float32 in C order. Standard output gets the output's shape, then the libraries that are mapped
// into this process after the inference, one a line: a Python library among them would be a Python that was needed.

#include <ATen/Parallel.h>
#include <torch/script.h>

#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::vector<float> read(const std::string& path, std::size_t count) {
  std::vector<float> values(count);
  std::ifstream file(path, std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(float)))) {
    throw std::runtime_error(path + ": shorter than the shape says");
  }
  return values;
}

std::set<std::string> mapped_libraries() {
  std::set<std::string> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto path = line.find('/');
    if (path != std::string::npos && line.find(".so", path) != std::string::npos) found.insert(line.substr(path));
  }
  return found;
}

}  // namespace

int main(int count, char** words) {
  if (count != 8) {
    std::cerr << "usage: detect MODEL INPUT OUTPUT BATCH CHANNELS HEIGHT WIDTH\n";
    return 2;
  }
  try {
    std::vector<int64_t> shape;
    std::size_t size = 1;
    for (int i = 4; i < 8; ++i) {
      shape.push_back(std::stoll(words[i]));
      size *= static_cast<std::size_t>(shape.back());
    }
    at::set_num_threads(1);
    c10::InferenceMode guard;
    torch::jit::Module model = torch::jit::load(words[1], torch::kCPU);
    model.eval();
    std::vector<float> values = read(words[2], size);
    const auto input = torch::from_blob(values.data(), shape, torch::kFloat32);
    torch::jit::IValue result = model.forward({input});
    // A trace gives the tensor itself, or a tuple whose first element it is.
    if (result.isTuple()) result = result.toTuple()->elements()[0];
    const torch::Tensor output = result.toTensor().to(torch::kFloat32).contiguous();
    std::ofstream file(words[3], std::ios::binary);
    file.write(reinterpret_cast<const char*>(output.data_ptr<float>()), output.numel() * sizeof(float));
    if (!file.flush()) throw std::runtime_error(std::string(words[3]) + ": cannot be written");
    for (const auto side : output.sizes()) std::cout << side << ' ';
    std::cout << '\n';
    for (const auto& library : mapped_libraries()) std::cout << library << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
