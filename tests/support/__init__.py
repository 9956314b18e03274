"""What tests share: builders of files, fakes, runners."""
