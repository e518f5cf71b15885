# Language, warnings and switches for every room. polykv_room() makes a room's library.
option(POLYKV_TESTS "Build the tests" ON)
option(POLYKV_BENCH "Build the benchmarks of single kernels (with the tests, where libbenchmark is)" ON)
option(POLYKV_TORCH "Build the writer's prefill with libtorch" ON)
option(POLYKV_FUZZ "Build the parsers' fuzz targets instead of the other tests (clang only)" OFF)
set(POLYKV_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread; empty for none")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release or RelWithDebInfo" FORCE)
endif()
set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
include(GNUInstallDirs)

find_program(POLYKV_CCACHE ccache)
if(POLYKV_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${POLYKV_CCACHE})
endif()

add_library(polykv_flags INTERFACE)
target_compile_options(polykv_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                                              -Wno-sign-conversion -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 warns about its own std::string::operator+ (GCC bug 105651).
  target_compile_options(polykv_flags INTERFACE -Wno-restrict)
endif()
# A result may not depend on what the compiler fuses: no contraction, and nothing of -ffast-math that
# changes a number. errno and floating-point traps of the mathematical functions are not used.
target_compile_options(polykv_flags INTERFACE -ffp-contract=off -fno-math-errno -fno-trapping-math)
target_include_directories(polykv_flags INTERFACE ${PROJECT_SOURCE_DIR})

if(POLYKV_SANITIZE)
  # For every target, third-party headers' inline code included: a half-instrumented program lies.
  add_compile_options(-fsanitize=${POLYKV_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer -Wno-maybe-uninitialized)
  add_link_options(-fsanitize=${POLYKV_SANITIZE})
  if(POLYKV_SANITIZE MATCHES address AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    # Checks as calls in large functions: the kernels, unrolled as they are, compile in two thirds of the time.
    add_compile_options(--param=asan-instrumentation-with-call-threshold=500)
  endif()
endif()
# polykv_seldom_runs(): what this folder and those below compile is not worth the optimiser's time where
# sanitizers have it look at twice the code; the rooms that compute keep theirs.
macro(polykv_seldom_runs)
  if(POLYKV_SANITIZE AND NOT POLYKV_FUZZ)
    add_compile_options(-O0)
  endif()
endmacro()
if(POLYKV_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL Clang)
    message(FATAL_ERROR "the fuzz targets need clang and its libFuzzer: cmake --preset fuzz")
  endif()
  # Which lines an input reaches is counted, too (tests/fuzz/coverage.py). Warnings are g++'s affair.
  add_compile_options(-fsanitize=fuzzer-no-link -fprofile-instr-generate -fcoverage-mapping)
  target_compile_options(polykv_flags INTERFACE -Wno-error -Wno-unknown-warning-option)
  add_link_options(-fsanitize=fuzzer-no-link -fprofile-instr-generate)
endif()
if(POLYKV_SANITIZE OR CMAKE_BUILD_TYPE STREQUAL Debug)
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
endif()

# polykv_room(NAME SOURCES a.cpp … [LINK lib …]): static library polykv_NAME.
function(polykv_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINK" ${ARGN})
  add_library(polykv_${name} STATIC ${ROOM_SOURCES})
  target_link_libraries(polykv_${name} PUBLIC ${ROOM_LINK} PRIVATE polykv_flags)
  target_include_directories(polykv_${name} PUBLIC ${PROJECT_SOURCE_DIR})
endfunction()
