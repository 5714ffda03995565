"""One module per operator: public function, fake kernel, autograd formula."""
