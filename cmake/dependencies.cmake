# Third-party libraries, each found once. libtorch: a user's own through CMAKE_PREFIX_PATH, else .deps/.
find_package(Threads REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(zmq REQUIRED IMPORTED_TARGET libzmq>=4.3.4)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
# Its archive where there is one: an agent that seldom meets a combining character loads no library for it.
find_path(POLYKV_UTF8PROC_INCLUDE utf8proc.h REQUIRED)
find_library(POLYKV_UTF8PROC NAMES libutf8proc.a utf8proc REQUIRED)
add_library(utf8proc UNKNOWN IMPORTED)
set_target_properties(utf8proc PROPERTIES IMPORTED_LOCATION ${POLYKV_UTF8PROC}
                      INTERFACE_INCLUDE_DIRECTORIES ${POLYKV_UTF8PROC_INCLUDE})

# The package's own config file wants a CUDA toolchain and links its CUDA libraries; the prefill needs two
# CPU libraries and the headers, so they are imported here by hand.
if(POLYKV_TORCH)
  set(POLYKV_DEPS_TORCH ${PROJECT_SOURCE_DIR}/.deps/site/torch)
  find_path(POLYKV_TORCH_INCLUDE ATen/ATen.h
            PATH_SUFFIXES include HINTS ${POLYKV_DEPS_TORCH}/include NO_CMAKE_SYSTEM_PATH)
  find_library(POLYKV_TORCH_CPU torch_cpu HINTS ${POLYKV_DEPS_TORCH}/lib NO_CMAKE_SYSTEM_PATH)
  find_library(POLYKV_C10 c10 HINTS ${POLYKV_DEPS_TORCH}/lib NO_CMAKE_SYSTEM_PATH)
  if(NOT POLYKV_TORCH_INCLUDE OR NOT POLYKV_TORCH_CPU OR NOT POLYKV_C10)
    message(FATAL_ERROR "libtorch was not found: run ./launch/setup, name yours with "
                        "-DCMAKE_PREFIX_PATH=/path/to/libtorch, or build without the writer with "
                        "-DPOLYKV_TORCH=OFF")
  endif()
  get_filename_component(POLYKV_TORCH_LIBRARY_DIR ${POLYKV_TORCH_CPU} DIRECTORY)
  message(STATUS "libtorch: ${POLYKV_TORCH_LIBRARY_DIR}")
  add_library(torch_cpu SHARED IMPORTED)
  set_target_properties(torch_cpu PROPERTIES IMPORTED_LOCATION ${POLYKV_TORCH_CPU})
  add_library(c10 SHARED IMPORTED)
  set_target_properties(c10 PROPERTIES IMPORTED_LOCATION ${POLYKV_C10})
  add_library(polykv_torch INTERFACE)
  target_include_directories(polykv_torch SYSTEM INTERFACE ${POLYKV_TORCH_INCLUDE})
  target_link_libraries(polykv_torch INTERFACE torch_cpu c10)
  # libtorch_cpu finds its own dependencies by its RPATH at run time; at link time they need not be here.
  target_link_options(polykv_torch INTERFACE -Wl,--unresolved-symbols=ignore-in-shared-libs)
  # An installed writer uses the same libtorch, where it is: half a gigabyte is not copied about.
  target_link_options(polykv_torch INTERFACE -Wl,-rpath,${POLYKV_TORCH_LIBRARY_DIR})
else()
  message(STATUS "libtorch: off, so the writer is not built")
endif()
