// Importing `dfops._cuda` runs the CUDA registrations of the operators it was linked with.
#include <Python.h>

PyMODINIT_FUNC PyInit__cuda() {
  static PyModuleDef module = {
      PyModuleDef_HEAD_INIT, "_cuda", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
