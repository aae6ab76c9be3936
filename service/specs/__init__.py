"""Reading a spec from a file or a form, and explaining what is wrong with one."""
