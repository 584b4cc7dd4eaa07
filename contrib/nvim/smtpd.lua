-- smtpd.conf in Neovim 0.11 or later. Put this file into
-- ~/.config/nvim/plugin/ and smtpd-check into the PATH.

vim.filetype.add({
  filename = { ["smtpd.conf"] = "smtpd" },
  pattern = { [".*/smtpd%.conf%.d/.*%.conf"] = "smtpd" },
})

vim.lsp.config("smtpd", {
  -- Append "--host", "FILE" to judge for a mail host that FILE describes.
  cmd = { "smtpd-check", "lsp" },
  filetypes = { "smtpd" },
  root_markers = { ".git" },
})
vim.lsp.enable("smtpd")

vim.api.nvim_create_autocmd("FileType", {
  pattern = "smtpd",
  callback = function(args)
    vim.bo[args.buf].commentstring = "# %s"
  end,
})
